#include <string>

#include "shoal/io/h5_file.hpp"
#include "shoal/train/metrics.hpp"

namespace shoal::train {
namespace {

template <class Rows>
std::vector<std::int64_t> steps_of(const Rows& rows) {
  std::vector<std::int64_t> steps;
  steps.reserve(rows.size());
  for (const auto& row : rows) steps.push_back(row.step);
  return steps;
}

template <class T>
void write_column(io::H5File& file, const std::string& path, const std::vector<T>& values) {
  file.write_values<T>(path, values);
}

/// One array [rows, inner...] from the same member of every router row.
struct RouterColumn {
  std::string path;
  std::vector<float> RouterRow::*member = nullptr;
  Shape shape;
};

void write_router(io::H5File& file, const MetricsTable& table, const RouterColumn& column) {
  io::H5Stream stream =
      file.stream({.path = column.path, .type = io::H5Type::f32, .shape = column.shape}, nullptr);
  for (const RouterRow& row : table.routers) {
    stream.append_values(std::span<const float>{row.*column.member});
  }
  stream.finish();
}

void write_steps(io::H5File& file, const MetricsTable& table) {
  write_column(file, "/train/step", steps_of(table.steps));
  for (int c = 0; c < kColumns; ++c) {
    const auto column = static_cast<Column>(c);
    std::vector<double> values;
    values.reserve(table.steps.size());
    for (const StepRow& row : table.steps) values.push_back(row[column]);
    write_column(file, "/train/" + std::string{name(column)}, values);
  }
}

void write_validations(io::H5File& file, const MetricsTable& table) {
  write_column(file, "/validation/step", steps_of(table.validations));
  const auto column = [&](const char* path, double ValidationRow::*member) {
    std::vector<double> values;
    for (const ValidationRow& row : table.validations) values.push_back(row.*member);
    write_column(file, path, values);
  };
  column("/validation/loss", &ValidationRow::loss);
  column("/validation/perplexity", &ValidationRow::perplexity);
  column("/validation/bits_per_byte", &ValidationRow::bits_per_byte);
}

}  // namespace

std::string_view name(Column column) {
  static constexpr std::array<std::string_view, kColumns> kNames = {"loss",
                                                                    "aux_loss",
                                                                    "z_loss",
                                                                    "grad_norm",
                                                                    "lr",
                                                                    "tokens",
                                                                    "tokens_per_second",
                                                                    "mfu",
                                                                    "loss_scale",
                                                                    "skipped",
                                                                    "seconds_step",
                                                                    "seconds_data",
                                                                    "seconds_reduce",
                                                                    "reduced_early",
                                                                    "seconds_evaluate",
                                                                    "seconds_checkpoint"};
  return kNames[static_cast<std::size_t>(column)];
}

void write_metrics_file(const std::filesystem::path& path, const MetricsTable& table) {
  io::H5File file = io::H5File::create(path);
  write_steps(file, table);
  write_validations(file, table);
  const auto rows = static_cast<std::int64_t>(table.routers.size());
  const auto [layers, experts] = table.router;
  write_column(file, "/router/step", steps_of(table.routers));
  write_router(file, table, {"/router/counts", &RouterRow::counts, {rows, layers, experts}});
  write_router(file, table, {"/router/bias", &RouterRow::bias, {rows, layers, experts}});
  write_router(file, table, {"/router/entropy", &RouterRow::entropy, {rows, layers}});
  write_router(file, table, {"/router/drop_rate", &RouterRow::drop_rate, {rows, layers}});
  file.commit();
}

}  // namespace shoal::train
