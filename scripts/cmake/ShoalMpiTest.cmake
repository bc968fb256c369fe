# shoal_mpi_test(LAYER ranks...): builds test_LAYER from the test_*.cpp of this folder with a main
# that starts MPI, and runs it under mpirun once for each number of ranks.
function(shoal_mpi_test layer)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/test_*.cpp)
  add_executable(test_${layer} ${sources} ${PROJECT_SOURCE_DIR}/tests/support/main/mpi_main.cpp)
  target_link_libraries(test_${layer} PRIVATE shoal_${layer} shoal_comm shoal_test_support)
  target_compile_definitions(test_${layer} PRIVATE
    SHOAL_SOURCE_DIR="${PROJECT_SOURCE_DIR}" SHOAL_GOLDEN_DIR="${PROJECT_SOURCE_DIR}/tests/golden")
  foreach(ranks IN LISTS ARGN)
    add_test(NAME ${layer}_np${ranks}
      COMMAND ${MPIEXEC_EXECUTABLE} --oversubscribe -np ${ranks} $<TARGET_FILE:test_${layer}>)
    set_tests_properties(${layer}_np${ranks} PROPERTIES TIMEOUT 900)
    shoal_mpi_test_environment(${layer}_np${ranks})
  endforeach()
endfunction()

# Ranks share the cores of a test machine: waiting must yield, and one thread a rank is plenty.
function(shoal_mpi_test_environment test)
  set_tests_properties(${test} PROPERTIES PROCESSORS 2 ENVIRONMENT
    "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OMP_NUM_THREADS=1;OMPI_MCA_mpi_yield_when_idle=1")
endfunction()
