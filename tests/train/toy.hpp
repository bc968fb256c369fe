#pragma once
#include <filesystem>
#include <string>

#include "shoal/comm/communicator.hpp"
#include "shoal/train/checkpoint.hpp"
#include "shoal/train/metrics.hpp"
#include "shoal/train/run.hpp"

/// A corpus and a model of toy size for runs that take well under a second.
namespace shoal::test {

/// A folder of this test under the build's temporary folder, empty at the start; the same on all
/// ranks. Collective.
[[nodiscard]] std::filesystem::path fresh_folder(const Communicator& world,
                                                 const std::string& name);

/// A dataset of short documents over 32 tokens in which each token mostly follows from the one
/// before it. Written by rank 0; collective.
void make_corpus(const Communicator& world, const std::filesystem::path& folder);

/// Two layers, one of them MoE with four experts, balance bias on; eight steps of four sequences.
[[nodiscard]] train::RunConfig toy_config(const std::filesystem::path& folder);

/// A model that all axes can cut, up to four stages and four expert ranks: five layers, a shared
/// expert; eight sequences a step.
[[nodiscard]] train::RunConfig divisible_config(const std::filesystem::path& folder);

/// Trains in an arena of the planned size, with evaluations, and expects that it took every planned
/// byte and no other. The vocabulary must be known. Collective.
void expect_planned_memory(const train::RunConfig& config, const Communicator& world);

/// Weights, optimizer states and StepState of a checkpoint in one comparable text of hex hashes.
[[nodiscard]] std::string state_digest(const std::filesystem::path& checkpoint);

/// Largest difference of any weight between two checkpoints.
[[nodiscard]] double weight_distance(const std::filesystem::path& a,
                                     const std::filesystem::path& b);

[[nodiscard]] train::MetricsTable metrics_of(const std::filesystem::path& run_dir);

}  // namespace shoal::test
