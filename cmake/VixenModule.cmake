# vixen_module(NAME DEPENDS modules... LIBS libraries...): the static library vixen_NAME of src/NAME.
#
# One target a folder, so that the link graph is the layering (docs/architecture.md). Sources are globbed, subfolders
# included: a file that lies in the folder is built. What a machine or build lacks is another file, not an #ifdef:
#   with VIXEN_CUDA  *.cu, *_cuda.cpp, *_nccl.cpp and all of cuda/         without   no_cuda.cpp, no_nccl.cpp
#   on x86-64        *_x86_64.cpp, *_avx2.cpp, *_avx512.cpp               elsewhere no_x86_64.cpp
# *_avx2.cpp and *_avx512.cpp are compiled for that instruction set and called only after a run-time check.
set(VIXEN_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Werror)

# The one precompiled header for everything that sees tensors. ATen only: torch/torch.h costs 25 s a file.
add_library(vixen_pch STATIC "${CMAKE_SOURCE_DIR}/cmake/pch.cpp")
target_link_libraries(vixen_pch PUBLIC vixen::torch fmt::fmt OpenMP::OpenMP_CXX)
target_compile_options(vixen_pch PRIVATE ${VIXEN_WARNINGS} -Winvalid-pch)
target_precompile_headers(vixen_pch PRIVATE <ATen/ATen.h> <fmt/format.h> <string> <vector> <memory> <algorithm> <functional>)

function(vixen_target_options target)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${VIXEN_WARNINGS}>)
  target_include_directories(${target} PUBLIC "${CMAKE_SOURCE_DIR}/src")
endfunction()

# vixen_module_sources(DIR OUT_CPP OUT_CU): the sources of a folder that this machine and build have.
function(vixen_module_sources dir out_cpp out_cu)
  set(x86_64 OFF)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(x86_64 ON)
  endif()
  file(GLOB_RECURSE found RELATIVE "${dir}" CONFIGURE_DEPENDS "${dir}/*.cpp" "${dir}/*.cu")
  set(cpp)
  set(cu)
  foreach(source ${found})
    get_filename_component(name "${source}" NAME)
    if(name MATCHES "^no_(cuda|nccl)\\.cpp$")
      set(leave_out ${VIXEN_CUDA})
    elseif(name STREQUAL "no_x86_64.cpp")
      set(leave_out ${x86_64})
    elseif(name MATCHES "_(cuda|nccl)\\.cpp$" OR name MATCHES "\\.cu$" OR source MATCHES "(^|/)cuda/")
      set(leave_out NOT ${VIXEN_CUDA})
    elseif(name MATCHES "_(x86_64|avx2|avx512)\\.cpp$")
      set(leave_out NOT ${x86_64})
    else()
      set(leave_out OFF)
    endif()
    if(${leave_out})
      continue()
    endif()
    if(name MATCHES "\\.cu$")
      list(APPEND cu "${dir}/${source}")
    else()
      list(APPEND cpp "${dir}/${source}")
    endif()
  endforeach()
  set(${out_cpp} ${cpp} PARENT_SCOPE)
  set(${out_cu} ${cu} PARENT_SCOPE)
endfunction()

# vixen_unity(TARGET SOURCES...): with VIXEN_UNITY, compiles the target's sources in a few translation units, as tools/unity_groups.py divides them.
# Sources with flags of their own (instruction sets) stay apart, so that the numbers stay what they are.
function(vixen_unity target)
  list(FILTER ARGN EXCLUDE REGEX "_(avx2|avx512|baseline)\\.cpp$")
  execute_process(COMMAND "${VIXEN_PYTHON}" "${CMAKE_SOURCE_DIR}/tools/unity_groups.py" 1500 ${ARGN}
    OUTPUT_VARIABLE groups OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
  # A type of an anonymous namespace as a member of another type: right in the file it is in, which the compiler takes for a header here.
  # A local name that shadows only what another file calls its own: the build of single files says what shadows in truth.
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:-Wno-subobject-linkage;-Wno-shadow>")
  foreach(source group IN ZIP_LISTS ARGN groups)
    set_source_files_properties("${source}" PROPERTIES UNITY_GROUP "${target}_${group}")
  endforeach()
endfunction()

function(vixen_module name)
  cmake_parse_arguments(ARG "NO_TORCH" "" "DEPENDS;LIBS" ${ARGN})
  set(dir "${CMAKE_SOURCE_DIR}/src/${name}")
  vixen_module_sources("${dir}" sources cuda_sources)
  set(target vixen_${name})
  if(NOT sources AND NOT cuda_sources)
    add_library(${target} INTERFACE)
    target_include_directories(${target} INTERFACE "${CMAKE_SOURCE_DIR}/src")
    foreach(dep ${ARG_DEPENDS})
      target_link_libraries(${target} INTERFACE vixen_${dep})
    endforeach()
    target_link_libraries(${target} INTERFACE ${ARG_LIBS})
    return()
  endif()
  add_library(${target} STATIC ${sources} ${cuda_sources})
  vixen_target_options(${target})
  foreach(dep ${ARG_DEPENDS})
    target_link_libraries(${target} PUBLIC vixen_${dep})
  endforeach()
  target_link_libraries(${target} PUBLIC ${ARG_LIBS} fmt::fmt)
  if(NOT ARG_NO_TORCH)
    target_link_libraries(${target} PUBLIC vixen::torch OpenMP::OpenMP_CXX)
    target_precompile_headers(${target} REUSE_FROM vixen_pch)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Winvalid-pch>)
  endif()
  if(VIXEN_CUDA AND cuda_sources)
    # Kernels see raw pointers only: no torch header in a .cu file (spec of the house, checked by a ctest).
    set_source_files_properties(${cuda_sources} PROPERTIES COMPILE_OPTIONS "--expt-relaxed-constexpr;-gencode=arch=compute_80,code=sm_80;-gencode=arch=compute_90a,code=sm_90a;-gencode=arch=compute_90,code=compute_90;-Xcompiler=-Wall,-Wextra,-Werror")
  endif()
  if(VIXEN_UNITY)
    vixen_unity(${target} ${sources})
  endif()
  # Instruction-set variants (GCC 12 warns about its own avx512 headers, bug 105593): no PCH (its flags must match), their own -m flags.
  foreach(source ${sources})
    if(source MATCHES "_avx512\\.cpp$")
      set_source_files_properties("${source}" PROPERTIES SKIP_PRECOMPILE_HEADERS ON
        COMPILE_OPTIONS "-O3;-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mfma;-mavx2;-mf16c;-mprefer-vector-width=512;-Wno-maybe-uninitialized;${VIXEN_SANITIZE_AVX512_OPTIONS}")
    elseif(source MATCHES "_avx2\\.cpp$")
      set_source_files_properties("${source}" PROPERTIES SKIP_PRECOMPILE_HEADERS ON COMPILE_OPTIONS "-O3;-mavx2;-mfma;-mf16c")
    elseif(source MATCHES "_baseline\\.cpp$")
      set_source_files_properties("${source}" PROPERTIES SKIP_PRECOMPILE_HEADERS ON COMPILE_OPTIONS "-O3")
    endif()
  endforeach()
endfunction()
