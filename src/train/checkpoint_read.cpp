#include "train/checkpoint_read.hpp"

#include <algorithm>

#include "shoal/base/error.hpp"
#include "train/checkpoint_save.hpp"

namespace shoal::train {
namespace {

Manifest checked_manifest(const std::filesystem::path& path, bool verify) {
  Manifest manifest = read_manifest(path);
  if (verify) verify_hashes(path, manifest);
  return manifest;
}

/// A parameter as rows of its last dimension: the box that a window of rows covers. Windows may
/// start and end anywhere in the leading dimensions, so one window can need several boxes; reading
/// row by row of the first dimension keeps this simple.
std::vector<io::Slab> slabs_of_rows(const Shape& shape, std::int64_t first, std::int64_t rows) {
  std::vector<io::Slab> slabs;
  if (shape.rank() == 1) return {{.start = {0}, .count = {shape[0]}}};
  std::int64_t group = 1;  // rows of one index of the first dimension
  for (int d = 1; d + 1 < shape.rank(); ++d) group *= shape[d];
  for (std::int64_t at = first; at < first + rows;) {
    io::Slab slab{.start = {at / group}, .count = {1}};
    const std::int64_t within = at % group;
    std::int64_t n = std::min(group - within, first + rows - at);
    if (shape.rank() == 2) n = slab.count[0] = first + rows - at;
    if (shape.rank() == 3) {
      slab.start.push_back(within);
      slab.count.push_back(n);
    }
    slab.start.push_back(0);
    slab.count.push_back(shape.back());
    slabs.push_back(std::move(slab));
    at += n;
  }
  return slabs;
}

}  // namespace

CheckpointReader::CheckpointReader(const std::filesystem::path& checkpoint, bool verify)
    : path_{checkpoint},
      manifest_{checked_manifest(checkpoint, verify)},
      index_{io::H5File::open(checkpoint / "index.h5")} {}

void CheckpointReader::check(const nn::ParameterLayout& layout) const {
  auto names = index_.list("/weights");
  for (const nn::Parameter& p : layout.parameters()) {
    const auto dataset = index_.find_dataset("/weights/" + p.spec.name);
    require(dataset.has_value(),
            path_.string() + ": is of another model: it has no parameter " + p.spec.name);
    require(dataset->shape() == p.spec.shape,
            path_.string() + ": is of another model: " + p.spec.name + " is " +
                to_string(dataset->shape()) + ", this model has " + to_string(p.spec.shape));
    names.erase(std::remove(names.begin(), names.end(), p.spec.name), names.end());
  }
  require(names.empty(), path_.string() + ": is of another model: this one has no parameter " +
                             (names.empty() ? "" : names.front()));
}

void CheckpointReader::load(const Field& field, const parallel::ShardPlan& plan) const {
  for (const parallel::RowShard& shard : plan.shards()) {
    const nn::ParameterSpec& spec =
        plan.layout().parameters()[static_cast<std::size_t>(shard.parameter)].spec;
    const std::string path = "/" + field.group + "/" + spec.name;
    const io::H5Dataset dataset = index_.dataset(path);
    require(dataset.type() == field.type,
            path_.string() + ": " + path + " is " + std::string{io::name(dataset.type())} +
                ", this run needs " + std::string{io::name(field.type)} + " (optim.state_dtype)");
    const parallel::RowRange whole{.first = 0, .count = shard.rows};
    read_global(dataset, {.field = &field, .spec = &spec, .parameter = shard.parameter},
                field.held_only ? shard.held : whole);
  }
}

struct WeightReader::Impl {
  CheckpointReader reader;
};

WeightReader::WeightReader(const std::filesystem::path& checkpoint, bool verify)
    : impl_{std::make_unique<Impl>(Impl{CheckpointReader{checkpoint, verify}})} {}
WeightReader::~WeightReader() = default;
WeightReader::WeightReader(WeightReader&&) noexcept = default;

const Manifest& WeightReader::manifest() const {
  return impl_->reader.manifest();
}

void WeightReader::check(const nn::ParameterLayout& layout) const {
  impl_->reader.check(layout);
}

void WeightReader::read(const RowWindow& window, std::span<float> values) const {
  const io::H5Dataset dataset = impl_->reader.index().dataset("/weights/" + window.name);
  expect(static_cast<std::int64_t>(values.size()) == window.rows * window.row_elements &&
             dataset.shape().back() == window.row_elements,
         "the window does not fit the parameter");
  std::int64_t at = 0;
  for (const io::Slab& slab : slabs_of_rows(dataset.shape(), window.first_row, window.rows)) {
    const std::int64_t n = slab.elements();
    dataset.read(slab, std::as_writable_bytes(values.subspan(static_cast<std::size_t>(at),
                                                             static_cast<std::size_t>(n))));
    at += n;
  }
}

void load_weights(const Exec& exec, const WeightReader& reader, const nn::ParameterStore& store) {
  reader.check(store.layout());
  const Field field = weight_field(exec, store);
  reader.impl_->reader.load(field, parallel::ShardPlan::alone(store.layout()));
}

std::vector<NamedValues> read_router_bias(const std::filesystem::path& checkpoint) {
  const CheckpointReader reader{checkpoint, false};
  std::vector<NamedValues> out;
  if (!reader.index().has("/state")) return out;
  for (const std::string& name : reader.index().list("/state")) {
    const io::H5Dataset dataset = reader.index().dataset("/state/" + name);
    if (dataset.type() == io::H5Type::f32) out.push_back({name, dataset.read_all<float>()});
  }
  return out;
}

namespace {

void stream_rows(io::H5Stream& stream, const nn::ParameterSpec& spec,
                 const std::function<void(const RowWindow&, std::span<float>)>& values) {
  constexpr std::int64_t kWindow = std::int64_t{1} << 22;
  const std::int64_t width = spec.shape.back();
  const std::int64_t step = std::max<std::int64_t>(1, kWindow / std::max<std::int64_t>(1, width));
  std::vector<float> host;
  for (std::int64_t row = 0; row < spec.shape.rows(); row += step) {
    const std::int64_t rows = std::min(step, spec.shape.rows() - row);
    host.resize(static_cast<std::size_t>(rows * width));
    values({.name = spec.name, .first_row = row, .rows = rows, .row_elements = width}, host);
    stream.append_values(std::span<const float>{host});
  }
}

}  // namespace

void write_weights(const WeightsToWrite& args) {
  SaveRequest request{.checkpoint = args.checkpoint,
                      .manifest = {.code_version = SHOAL_VERSION,
                                   .layout = "import",
                                   .precision = "fp32",
                                   .model = args.model,
                                   .tokenizer_hash = args.tokenizer_hash,
                                   .state = io::Json::object()},
                      .tokenizer_json = args.tokenizer_json};
  for (const nn::Parameter& p : args.layout->parameters()) {
    request.datasets.push_back(
        {.path = "/weights/" + p.spec.name,
         .type = io::H5Type::f32,
         .global = p.spec.shape,
         .slice = nn::whole(p.spec.shape),
         .rows = all_rows(p.spec.shape),
         .write = [&args, &p](io::H5Stream& stream) { stream_rows(stream, p.spec, args.values); }});
  }
  for (const NamedValues& bias : args.router_bias) {
    const auto bytes = std::as_bytes(std::span{bias.values});
    request.datasets.push_back(
        whole_dataset("/state/" + bias.name, io::H5Type::f32, {bytes.begin(), bytes.end()}));
  }
  save_folder(request, Communicator::self());
}

}  // namespace shoal::train
