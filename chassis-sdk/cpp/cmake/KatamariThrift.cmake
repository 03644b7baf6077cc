# Finds Apache Thrift. Defines the target Katamari::thrift for its library, since Debian's package has no CMake files,
# and the function katamari_thrift(), which runs its compiler.

find_package(Threads REQUIRED)
find_path(KATAMARI_THRIFT_INCLUDE thrift/Thrift.h)
find_path(KATAMARI_BOOST_INCLUDE boost/scoped_array.hpp)
find_library(KATAMARI_THRIFT_LIBRARY thrift)
if(NOT KATAMARI_THRIFT_INCLUDE OR NOT KATAMARI_THRIFT_LIBRARY OR NOT KATAMARI_BOOST_INCLUDE)
  message(FATAL_ERROR "Katamari needs the C++ library of Apache Thrift, 0.17 or later, and the Boost headers that Thrift's headers include: "
    "on Debian install libthrift-dev and libboost-dev")
endif()
if(NOT TARGET Katamari::thrift)
  add_library(Katamari::thrift INTERFACE IMPORTED)
  target_include_directories(Katamari::thrift INTERFACE ${KATAMARI_THRIFT_INCLUDE} ${KATAMARI_BOOST_INCLUDE})
  target_link_libraries(Katamari::thrift INTERFACE ${KATAMARI_THRIFT_LIBRARY} Threads::Threads)
endif()

# katamari_thrift(TARGET IDL...)
# Compiles IDL files and their includes, and adds the generated code to the target. It runs with CMake, and again when
# one of the files or another .thrift file beside them has changed.
function(katamari_thrift target)
  find_program(KATAMARI_THRIFT_COMPILER thrift)
  if(NOT KATAMARI_THRIFT_COMPILER)
    message(FATAL_ERROR "katamari_thrift() needs the Thrift compiler: on Debian install thrift-compiler")
  endif()
  set(generated ${CMAKE_CURRENT_BINARY_DIR}/${target}-thrift)
  file(REMOVE_RECURSE ${generated})
  file(MAKE_DIRECTORY ${generated})
  foreach(idl IN LISTS ARGN)
    get_filename_component(idl ${idl} ABSOLUTE)
    execute_process(COMMAND ${KATAMARI_THRIFT_COMPILER} -r --gen cpp:no_skeleton -out ${generated} ${idl}
      RESULT_VARIABLE failed ERROR_VARIABLE why)
    if(failed)
      message(FATAL_ERROR "The Thrift compiler failed on ${idl}:\n${why}")
    endif()
    get_filename_component(folder ${idl} DIRECTORY)
    file(GLOB beside CONFIGURE_DEPENDS ${folder}/*.thrift)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${idl} ${beside})
  endforeach()
  file(GLOB sources ${generated}/*.cpp)
  target_sources(${target} PRIVATE ${sources})
  target_include_directories(${target} PRIVATE ${generated})
endfunction()
