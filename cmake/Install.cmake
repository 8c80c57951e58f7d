# cmake --install BUILD --prefix PREFIX: the program and what a user of it needs beside it.
#   bin/vixen   share/vixen/{configs,slurm,tools,launch/{run,stage},requirements*.txt}   share/doc/vixen
# The installed program finds its libraries where they were at build time. Those of the Python environment are named by hand: it may
# lie in the source tree, whose folders CMake leaves out of INSTALL_RPATH_USE_LINK_PATH.
include(GNUInstallDirs)
set(_rpath "${VIXEN_TORCH_DIR}/lib")
if(VIXEN_NCCL_LIBRARY)
  get_filename_component(_nccl_folder "${VIXEN_NCCL_LIBRARY}" DIRECTORY)
  list(APPEND _rpath "${_nccl_folder}")
endif()
set_target_properties(vixen PROPERTIES INSTALL_RPATH "${_rpath}" INSTALL_RPATH_USE_LINK_PATH ON)

set(_share "${CMAKE_INSTALL_DATADIR}/vixen")
install(TARGETS vixen RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
install(DIRECTORY configs slurm DESTINATION "${_share}")
install(DIRECTORY tools DESTINATION "${_share}" USE_SOURCE_PERMISSIONS PATTERN __pycache__ EXCLUDE)
install(FILES launch/mpi.env launch/common.sh launch/staging.sh DESTINATION "${_share}/launch")
install(PROGRAMS launch/run launch/stage DESTINATION "${_share}/launch")
install(FILES requirements.txt requirements-cpu.txt requirements-cuda.txt requirements-tools.txt requirements-models.txt DESTINATION "${_share}")
install(FILES README.md CHANGELOG.md LICENSE CITATION.cff DESTINATION "${CMAKE_INSTALL_DOCDIR}")
install(DIRECTORY docs DESTINATION "${CMAKE_INSTALL_DOCDIR}")
