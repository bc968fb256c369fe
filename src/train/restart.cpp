#include "train/restart.hpp"

#include <cstring>

#include "shoal/base/error.hpp"
#include "shoal/base/log.hpp"
#include "shoal/io/atomic_file.hpp"
#include "shoal/train/model_json.hpp"
#include "train/agree.hpp"
#include "train/checkpoint_read.hpp"
#include "train/checkpoint_save.hpp"
#include "train/parameter_io.hpp"

namespace shoal::train {
namespace {

namespace fs = std::filesystem;
constexpr auto kStateBytes = static_cast<std::int64_t>(sizeof(ops::StepState));
constexpr const char* kStepState = "/state/step_state";

std::vector<std::byte> download_bytes(const Exec& exec, const TensorView& view) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(view.bytes()));
  download(exec, bytes.data(), view.bytes_begin(), view.bytes());
  exec.synchronize();
  return bytes;
}

/// True when the manifest, the sizes and all hashes hold; a warning tells what does not.
bool is_good(const fs::path& checkpoint) {
  try {
    verify_hashes(checkpoint, read_manifest(checkpoint));
    return true;
  } catch (const InputError& error) {
    log::warning(std::string{"checkpoint refused: "} + error.what());
    return false;
  }
}

std::string choose_newest(const fs::path& run_dir) {
  const auto found = list_checkpoints(run_dir);
  for (const fs::path& checkpoint : found) {
    if (!is_good(checkpoint)) continue;
    if (checkpoint != found.front()) {
      log::warning("continuing from the previous checkpoint " + checkpoint.string());
    }
    return checkpoint.string();
  }
  require(found.empty(), run_dir.string() +
                             ": every checkpoint is damaged; choose one by checkpoint.restart or "
                             "start over in another training.run_dir");
  return "";
}

std::string choose_on_root(const RunConfig& config) {
  const fs::path run_dir = config.training.run_dir;
  remove_temporaries(run_dir);
  const std::string& restart = config.checkpoint.restart;
  if (restart == "auto") return choose_newest(run_dir);
  if (restart == "none") {
    require(list_checkpoints(run_dir).empty(),
            run_dir.string() +
                ": holds checkpoints of an earlier run; with checkpoint.restart = none choose "
                "another training.run_dir, or remove them, or use auto");
    return "";
  }
  const fs::path checkpoint = find_checkpoint(restart);
  verify_hashes(checkpoint, read_manifest(checkpoint));
  return checkpoint.string();
}

/// Checkpoints of steps beyond the one a run restarts from would later look like the newest.
void set_aside_later(const fs::path& run_dir, std::int64_t step) {
  for (const fs::path& later : list_checkpoints(run_dir)) {
    if (std::stoll(later.filename().string().substr(5)) <= step) continue;  // after "step-"
    const fs::path aside = run_dir / ("abandoned-" + later.filename().string());
    std::error_code error;
    fs::remove_all(aside, error);
    io::rename_path(later, aside);
    log::warning("set aside " + later.string() + " as " + aside.filename().string());
  }
}

void warn_of_changes(const Manifest& manifest, const nn::ModelConfig& model) {
  const io::Json now = to_json(model);
  const io::Json before = to_json(manifest.model);
  for (const auto& [key, value] : now.items()) {
    if (before.at(key) == value) continue;
    log::warning("model." + key + " was " + before.at(key).dump() + " in the checkpoint, is now " +
                 value.dump());
  }
}

void load_step_state(const Exec& exec, const CheckpointReader& reader, const RunConfig& config,
                     const optim::Optimizer& optimizer) {
  const auto bytes = reader.index().dataset(kStepState).read_all<std::uint8_t>();
  require(static_cast<std::int64_t>(bytes.size()) == kStateBytes,
          reader.path().string() + ": " + kStepState + " has another size");
  ops::StepState state;
  std::memcpy(&state, bytes.data(), sizeof state);
  if (reader.manifest().precision != config.training.precision) {
    state.loss_scale =
        optimizer.dynamic_loss_scale() ? static_cast<float>(config.optim.initial_loss_scale) : 1.0F;
    state.scale_good_steps = 0;
  }
  upload(exec, optimizer.state().bytes_begin(), &state, kStateBytes);
  exec.synchronize();
}

void load_biases(const Exec& exec, const CheckpointReader& reader, const nn::ModelState& state) {
  for (const nn::NamedView& named : state.checkpointed()) {
    const auto dataset = reader.index().find_dataset("/state/" + named.name);
    require(dataset.has_value(), reader.path().string() + ": has no " + named.name +
                                     " (model.router_bias_update_rate was 0)");
    const auto values = dataset->read_all<float>();
    require(static_cast<std::int64_t>(values.size()) == named.view.elements(),
            reader.path().string() + ": is of another model: " + named.name);
    upload(exec, named.view.bytes_begin(), values.data(), named.view.bytes());
    exec.synchronize();
  }
}

/// The parameters that a checkpoint of this model holds, whatever the layout.
void check_model(const CheckpointReader& reader, const nn::ModelConfig& model) {
  reader.check(nn::make_layout(model, nn::whole_model(model)).parameters);
}

Manifest manifest_of(const SaveInputs& in) {
  const RunConfig& config = *in.config;
  return {.step = in.progress->step,
          .code_version = SHOAL_VERSION,
          .layout = in.groups->layout().dense.describe(),
          .precision = config.training.precision,
          .optimizer = config.optim.kind,
          .model = config.model,
          .tokenizer_hash = in.tokenizer_hash,
          .state = {{"seconds", in.progress->seconds},
                    {"ledger", data::to_json(in.progress->ledger.value())}},
          .effective_config = config.effective_text};
}

/// The rows of every field that this rank stands for.
void add_fields(const std::vector<Field>& fields, const parallel::ShardPlan& plan,
                std::vector<CheckpointDataset>& datasets) {
  for (const Field& field : fields) {
    for (const parallel::RowShard& shard : plan.shards()) {
      if (!shard.counted || shard.held.count == 0) continue;
      const nn::ParameterSpec& spec =
          plan.layout().parameters()[static_cast<std::size_t>(shard.parameter)].spec;
      datasets.push_back(
          {.path = "/" + field.group + "/" + spec.name,
           .type = field.type,
           .global = spec.shape,
           .slice = spec.slice,
           .rows = shard.held,
           .write = [&field, &spec, &shard](io::H5Stream& stream) {
             write_local(stream, {.field = &field, .spec = &spec, .parameter = shard.parameter},
                         shard.first_element(), shard.held_elements());
           }});
    }
  }
}

/// StepState, alike everywhere, from the first rank; router biases from the first of their stage.
void add_state(const Exec& exec, const SaveInputs& in, std::vector<CheckpointDataset>& datasets) {
  if (in.groups->world().is_root()) {
    datasets.push_back(whole_dataset(kStepState, io::H5Type::u8,
                                     download_bytes(exec, in.state->optimizer().state())));
  }
  if (!in.groups->stage().is_root()) return;
  for (const nn::NamedView& named : in.state->model_state().checkpointed()) {
    datasets.push_back(
        whole_dataset("/state/" + named.name, io::H5Type::f32, download_bytes(exec, named.view)));
  }
}

}  // namespace

void save_checkpoint(const Exec& exec, const SaveInputs& in) {
  const RunConfig& config = *in.config;
  SaveRequest request{
      .checkpoint = fs::path{config.training.run_dir} / step_folder_name(in.progress->step),
      .manifest = manifest_of(in),
      .tokenizer_json = in.tokenizer_json,
      .deflate_level = static_cast<int>(config.checkpoint.deflate_level)};
  const std::vector<Field> fields = optimizer_fields(exec, in.state->optimizer());
  add_fields(fields, in.state->optimizer().plan(), request.datasets);
  add_state(exec, in, request.datasets);
  const Communicator& world = in.groups->world();
  save_folder(request, world);
  (void)on_root(world, [&]() -> std::string {
    publish(request.checkpoint, config.checkpoint.keep_last);
    return "";
  });
}

std::optional<fs::path> choose_checkpoint(const RunConfig& config, const Communicator& world) {
  const std::string chosen = on_root(world, [&config] { return choose_on_root(config); });
  if (chosen.empty()) return std::nullopt;
  (void)on_root(world, [&]() -> std::string {
    set_aside_later(config.training.run_dir, read_manifest(chosen).step);
    return "";
  });
  return chosen;
}

Progress load_checkpoint(const Exec& exec, const fs::path& checkpoint, const RunConfig& config,
                         const TrainState& state) {
  const CheckpointReader reader{checkpoint, false};
  const Manifest& manifest = reader.manifest();
  require(!manifest.optimizer.empty(),
          checkpoint.string() + ": holds weights only; use checkpoint.init_from");
  require(manifest.optimizer == config.optim.kind,
          checkpoint.string() + ": was trained with optim.kind = " + manifest.optimizer +
              "; keep it, or take the weights only by checkpoint.init_from");
  check_model(reader, config.model);
  warn_of_changes(manifest, config.model);
  state.optimizer().reset(exec);
  for (const Field& field : optimizer_fields(exec, state.optimizer())) {
    reader.load(field, state.optimizer().plan());
  }
  load_step_state(exec, reader, config, state.optimizer());
  load_biases(exec, reader, state.model_state());
  const std::string what = checkpoint.string() + ": manifest.json";
  return {.step = manifest.step,
          .seconds = io::get_field<double>(manifest.state, "seconds", what),
          .ledger = data::ledger_from_json(io::get_field<io::Json>(manifest.state, "ledger", what),
                                           what)};
}

void load_initial_weights(const Exec& exec, const fs::path& checkpoint, const RunConfig& config,
                          const TrainState& state) {
  const CheckpointReader reader{checkpoint, true};
  check_model(reader, config.model);
  reader.load(optimizer_fields(exec, state.optimizer()).front(), state.optimizer().plan());
  for (const nn::NamedView& named : state.model_state().checkpointed()) {
    if (!reader.index().find_dataset("/state/" + named.name)) return;  // starts without a bias
  }
  load_biases(exec, reader, state.model_state());
}

}  // namespace shoal::train
