# VIXEN_SANITIZE: AddressSanitizer and UndefinedBehaviorSanitizer in everything that is compiled here. LibTorch, Open MPI and the rest
# stay as they are. vptr is left out: its checks want the type information of ATen's classes, which LibTorch hides.
#   vixen_sanitizer_options(TARGET): an executable brings the sanitizers' settings along, so that it needs no environment.
if(NOT VIXEN_SANITIZE)
  function(vixen_sanitizer_options target)
  endfunction()
  return()
endif()
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=address,undefined;-fno-sanitize=vptr;-fno-sanitize-recover=undefined;-fno-omit-frame-pointer;-O1;-g1>")
# GCC places the copies of stack frames that this check needs at multiples of 32 bytes, a vector of AVX-512 needs 64 (PR 110027).
set(VIXEN_SANITIZE_AVX512_OPTIONS "--param=asan-use-after-return=0")
add_link_options(-fsanitize=address,undefined)
add_library(vixen_sanitizer_settings OBJECT "${CMAKE_SOURCE_DIR}/cmake/sanitizer_settings.cpp")
target_compile_options(vixen_sanitizer_settings PRIVATE -fno-sanitize=all)
function(vixen_sanitizer_options target)
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:vixen_sanitizer_settings>)
endfunction()
