# LibTorch from a Python environment, as imported targets.
#
# We do not use torch's own find_package: a wheel built with CUDA refuses to configure where no CUDA toolkit is
# installed, and the CPU build must work there. Headers and libraries are the same either way.
#   vixen::torch        headers, libc10, libtorch_cpu, libtorch
#   vixen::torch_cuda   the above and libc10_cuda, libtorch_cuda (only when VIXEN_CUDA)
set(VIXEN_PYTHON "${CMAKE_SOURCE_DIR}/.venv/bin/python" CACHE FILEPATH "Python whose torch wheel provides LibTorch")
if(NOT EXISTS "${VIXEN_PYTHON}")
  message(FATAL_ERROR "no Python at ${VIXEN_PYTHON}: run launch/setup, or pass -DVIXEN_PYTHON=... (needs torch==2.11.0)")
endif()
execute_process(
  COMMAND "${VIXEN_PYTHON}" -c
          "import importlib.util as u, importlib.metadata as m; print(u.find_spec('torch').submodule_search_locations[0] + ';' + m.version('torch'))"
  OUTPUT_VARIABLE _torch OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE _rc ERROR_VARIABLE _err)
if(NOT _rc EQUAL 0)
  message(FATAL_ERROR "${VIXEN_PYTHON} has no torch: pip install torch==2.11.0\n${_err}")
endif()
list(GET _torch 0 VIXEN_TORCH_DIR)
list(GET _torch 1 VIXEN_TORCH_VERSION)
if(NOT VIXEN_TORCH_VERSION MATCHES "^2\\.11\\.")
  message(FATAL_ERROR "torch ${VIXEN_TORCH_VERSION} found in ${VIXEN_TORCH_DIR}; vixen is built and tested with 2.11")
endif()
message(STATUS "torch ${VIXEN_TORCH_VERSION}: ${VIXEN_TORCH_DIR}")

function(_vixen_torch_library name)
  add_library(vixen::${name} SHARED IMPORTED GLOBAL)
  set_target_properties(vixen::${name} PROPERTIES IMPORTED_LOCATION "${VIXEN_TORCH_DIR}/lib/lib${name}.so")
endfunction()
_vixen_torch_library(c10)
_vixen_torch_library(torch_cpu)

# torch's wheel carries headers of its own {fmt}, of another version than the library we and spdlog link: the system's
# headers must be found first. A folder with nothing but a link to them does that without reordering anything else.
find_path(VIXEN_FMT_INCLUDE fmt/format.h REQUIRED PATHS /usr/include)
file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/fmt-first")
file(CREATE_LINK "${VIXEN_FMT_INCLUDE}/fmt" "${CMAKE_BINARY_DIR}/fmt-first/fmt" SYMBOLIC)

add_library(vixen_torch INTERFACE)
add_library(vixen::torch ALIAS vixen_torch)
target_include_directories(vixen_torch SYSTEM INTERFACE "${CMAKE_BINARY_DIR}/fmt-first" "${VIXEN_TORCH_DIR}/include" "${VIXEN_TORCH_DIR}/include/torch/csrc/api/include")
target_link_libraries(vixen_torch INTERFACE vixen::torch_cpu vixen::c10)

# vixen_link_torch_first(TARGET): an executable must search libtorch_cpu before the BLAS that FAISS brings. Both export sgemm_;
# were the other first, torch's own matrix products would run there, on a second pool of threads that fights with OpenMP's
# (measured: half the speed). A unit test watches it.
function(vixen_link_torch_first target)
  # One flag with the path inside: CMake moves libraries that are named twice to the last place.
  target_link_options(${target} PRIVATE "LINKER:--push-state,--no-as-needed,${VIXEN_TORCH_DIR}/lib/libtorch_cpu.so,--pop-state")
endfunction()

if(VIXEN_CUDA)
  _vixen_torch_library(c10_cuda)
  _vixen_torch_library(torch_cuda)
  find_package(CUDAToolkit REQUIRED)
  # libtorch_cuda registers its kernels from static constructors: no symbol of ours refers to it, so it must be kept.
  target_link_libraries(vixen_torch INTERFACE -Wl,--no-as-needed vixen::torch_cuda vixen::c10_cuda -Wl,--as-needed CUDA::cudart)

  # NCCL: the one libtorch_cuda loads (its wheel), or the system's when torch was built against that; never both.
  file(GLOB _nccl_wheel "${VIXEN_TORCH_DIR}/../nvidia/nccl/lib/libnccl.so.2")
  if(_nccl_wheel)
    set(VIXEN_NCCL_LIBRARY "${_nccl_wheel}")
    set(VIXEN_NCCL_INCLUDE "${VIXEN_TORCH_DIR}/../nvidia/nccl/include")
  else()
    find_library(VIXEN_NCCL_LIBRARY nccl REQUIRED HINTS /usr/local/cuda/lib64)
    find_path(VIXEN_NCCL_INCLUDE nccl.h REQUIRED HINTS /usr/local/cuda/include)
  endif()
  message(STATUS "NCCL: ${VIXEN_NCCL_LIBRARY}")
  add_library(vixen_nccl INTERFACE)
  add_library(vixen::nccl ALIAS vixen_nccl)
  target_include_directories(vixen_nccl SYSTEM INTERFACE "${VIXEN_NCCL_INCLUDE}")
  target_link_libraries(vixen_nccl INTERFACE "${VIXEN_NCCL_LIBRARY}" CUDA::cudart)
endif()
