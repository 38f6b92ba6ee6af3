# Our own warnings, for our own code; everything from the system is a system header.
add_library(sallyport_flags INTERFACE)
target_include_directories(sallyport_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(sallyport_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Woverloaded-virtual -Werror)

# sallyport_library(NAME SOURCES x.cc … LINK lib …): a static library that shares base's precompiled header.
function(sallyport_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_link_libraries(${name} PUBLIC sallyport_flags ${arg_LINK})
  if(NOT name STREQUAL "sallyport_base")
    target_precompile_headers(${name} REUSE_FROM sallyport_base)
  endif()
endfunction()

# sallyport_program(NAME SOURCES x.cc … LINK lib …): a program that is shipped. In a release it carries the C++ runtime
# with it, which no library that it loads needs (docs/decisions/0005); sanitizers want the shared one.
function(sallyport_program name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LINK})
  target_compile_definitions(${name} PRIVATE SALLYPORT_VERSION="${PROJECT_VERSION}")
  target_link_options(${name} PRIVATE $<$<CONFIG:Release>:-static-libstdc++;-static-libgcc>)
endfunction()

# sallyport_test(NAME SOURCES x_test.cc … LINK lib …): one GoogleTest program; each of its tests is a test of ctest.
function(sallyport_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LINK} GTest::gmock GTest::gtest_main)
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 120)
endfunction()

# sallyport_fuzzer(NAME SOURCES x_fuzz.cc LINK lib …): a libFuzzer program with the preset fuzz; with the others the
# same file linked to a main that replays the corpus in tests/fuzz/corpus/NAME, as a test.
function(sallyport_fuzzer name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LINK})
  if(SALLYPORT_FUZZ)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/fuzz/replay_main.cc)
    add_test(NAME ${name}_corpus COMMAND ${name} ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
  endif()
endfunction()

include(GoogleTest)
