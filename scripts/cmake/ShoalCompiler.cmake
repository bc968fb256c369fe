# Compiler settings of our own targets, gathered in the interface target shoal_flags.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

find_program(SHOAL_CCACHE ccache)
if(SHOAL_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${SHOAL_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${SHOAL_CCACHE})
endif()

set(SHOAL_HAS_CUDA 0)
if(SHOAL_CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    find_program(SHOAL_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)
    if(SHOAL_NVCC)
      set(CMAKE_CUDA_COMPILER ${SHOAL_NVCC})
    endif()
  endif()
  if(CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_ARCHITECTURES OFF)  # our own -gencode flags below: 90a needs the long form
    enable_language(CUDA)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")  # CMake 3.25 knows it for nvcc < 13 only
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    find_package(CUDAToolkit REQUIRED)
    set(SHOAL_HAS_CUDA 1)
  else()
    message(STATUS "shoal: no nvcc found, building the CPU back end only")
  endif()
endif()

add_library(shoal_flags INTERFACE)
target_include_directories(shoal_flags INTERFACE ${PROJECT_SOURCE_DIR}/include)
target_compile_definitions(shoal_flags INTERFACE SHOAL_HAS_CUDA=${SHOAL_HAS_CUDA}
  SHOAL_VERSION="${PROJECT_VERSION}" OMPI_SKIP_MPICXX)
# Designated initialisers leave members at their defaults on purpose.
# GCC 12 reports -Wrestrict on std::string::operator+ and insert (its bug 105329).
set(shoal_warnings -Wall -Wextra -Wno-restrict -Wno-missing-field-initializers)
if(SHOAL_WERROR)
  list(APPEND shoal_warnings -Werror)
endif()
target_compile_options(shoal_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:${shoal_warnings};-march=${SHOAL_MARCH};-fno-math-errno;-fno-trapping-math>")
if(SHOAL_HAS_CUDA)
  if("90a" IN_LIST SHOAL_CUDA_ARCHS)
    target_compile_definitions(shoal_flags INTERFACE SHOAL_HAS_SM90A=1)
  endif()
  set(shoal_gencode "")
  foreach(arch IN LISTS SHOAL_CUDA_ARCHS)
    list(APPEND shoal_gencode "SHELL:-gencode arch=compute_${arch},code=sm_${arch}")
  endforeach()
  target_compile_options(shoal_flags INTERFACE
    "$<$<COMPILE_LANGUAGE:CUDA>:${shoal_gencode};--expt-relaxed-constexpr;-lineinfo>"
    "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Xcompiler -Wall,-Wextra>")
  if(SHOAL_WERROR)
    target_compile_options(shoal_flags INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Werror all-warnings>")
  endif()
endif()
if(SHOAL_SANITIZE)
  target_compile_options(shoal_flags INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${SHOAL_SANITIZE};-fno-omit-frame-pointer>")
  target_link_options(shoal_flags INTERFACE -fsanitize=${SHOAL_SANITIZE})
endif()
