// Each fault that verify_layout can plant is found, and without one the layout passes.
//   mpirun -np 4 layout_faults
#include <iostream>

#include "layout/matrix_case.hpp"
#include "shoal/comm/environment.hpp"
#include "shoal/train/verify_layout.hpp"
#include "train/toy.hpp"

namespace {

using namespace shoal;

/// Two tensor parallel ranks, twice, everything else plain; fp32.
train::RunConfig config_of(const std::filesystem::path& folder, const std::string& precision) {
  const test::Row plain(static_cast<std::size_t>(test::Factor::count), 0);
  train::RunConfig config = test::matrix_config(plain, folder, "cpu");
  config.parallel.tp = 2;
  config.training.precision = precision;
  return config;
}

/// Whether the verdict on rank 0 is the expected one; the same answer on all ranks.
bool expect_verdict(const Communicator& world, const train::RunConfig& config,
                    const std::string& fault) {
  const train::VerifyReport report =
      train::verify_layout(config, world, {.fault = train::fault_from_name(fault)});
  const bool right = !world.is_root() || report.passed() == (fault == "none");
  if (!right) {
    std::cout << config.training.precision << ", fault " << fault << ": "
              << (report.passed() ? "not found" : "does not pass") << "\n"
              << report.text() << std::endl;
  }
  return world.all_reduce_value(static_cast<int>(right), comm::ReduceOp::min) != 0;
}

}  // namespace

int main(int argc, char** argv) {
  comm::Environment environment{argc, argv};
  const Communicator world = Communicator::world();
  int wrong = 0;
  try {
    const auto folder = test::fresh_folder(world, "faults");
    test::make_corpus(world, folder / "corpus");
    for (const char* precision : {"fp32", "bf16"}) {
      for (const char* fault :
           {"none", "skip_reduction", "double_gradient", "swap_experts", "aux_scale"}) {
        if (!expect_verdict(world, config_of(folder, precision), fault)) ++wrong;
      }
    }
    world.barrier();
    if (world.is_root()) std::filesystem::remove_all(folder);
  } catch (const std::exception& error) {
    std::cerr << "rank " << world.rank() << ": " << error.what() << std::endl;
    comm::Environment::abort(1);
  }
  if (world.is_root()) std::cout << 10 - wrong << " of 10 verdicts are right\n";
  return wrong == 0 ? 0 : 1;
}
