#include "shoal/data/loader.hpp"

#include <algorithm>
#include <array>
#include <future>
#include <utility>

#include "shoal/base/error.hpp"
#include "shoal/base/math.hpp"
#include "shoal/base/thread_pool.hpp"

namespace shoal::data {
namespace {

void check_rank(DataRank rank) {
  expect(rank.count >= 1 && rank.index >= 0 && rank.index < rank.count,
         "the data-parallel rank lies outside its group");
}

[[nodiscard]] std::vector<SourceSpec> specs(const std::vector<BlendSource>& sources) {
  std::vector<SourceSpec> list;
  list.reserve(sources.size());
  for (const BlendSource& s : sources) {
    list.push_back({.name = s.name,
                    .fingerprint = s.dataset->fingerprint(),
                    .num_tokens = s.dataset->num_tokens(),
                    .weight = s.weight});
  }
  return list;
}

[[nodiscard]] BatchLayout layout_of(const LoaderConfig& config,
                                    const std::vector<BlendSource>& sources, DataRank rank) {
  check_rank(rank);
  require(!sources.empty(), "no training data was named");
  const auto eos = sources.front().dataset->info().eos_id;
  for (const BlendSource& s : sources) {
    require(s.dataset->info().tokenizer_hash == sources.front().dataset->info().tokenizer_hash,
            "datasets " + sources.front().name + " and " + s.name +
                " were made with different tokenizers");
  }
  require(config.micro_batch >= 1 && config.global_batch >= 1 &&
              config.global_batch % (rank.count * config.micro_batch) == 0,
          "the global batch of " + std::to_string(config.global_batch) +
              " sequences must be a multiple of micro-batch " + std::to_string(config.micro_batch) +
              " times " + std::to_string(rank.count) + " data-parallel ranks");
  return {.sequence = config.sequence,
          .sequences = config.global_batch / rank.count,
          .micro_batch = config.micro_batch,
          .eos_id = static_cast<std::int32_t>(eos),
          .cross_document = config.cross_document};
}

}  // namespace

struct Loader::Impl {
  LoaderConfig config;
  std::vector<BlendSource> sources;
  DataRank rank;
  Sampler sampler;
  Ledger delivered;
  std::vector<const TokenDataset*> by_index;  ///< ledger's source -> dataset
  std::array<StepBatch, 2> batches;
  std::size_t filling = 0;
  std::vector<std::int32_t> tokens;
  std::future<void> ahead;
  ThreadPool worker{1};  // last: its thread ends before what it uses

  Impl(const LoaderConfig& how, std::vector<BlendSource> from, DataRank part, Sampler order,
       const BatchLayout& layout)
      : config{how},
        sources{std::move(from)},
        rank{part},
        sampler{std::move(order)},
        delivered{sampler.ledger()},
        by_index(delivered.sources.size(), nullptr),
        batches{StepBatch{BatchArrays{layout}}, StepBatch{BatchArrays{layout}}} {
    for (std::size_t i = 0; i < sources.size(); ++i) {
      by_index[static_cast<std::size_t>(sampler.source_indices()[i])] = sources[i].dataset.get();
    }
  }

  void fill(StepBatch& batch) {
    const auto samples = sampler.next(config.global_batch);
    const std::int64_t share = config.global_batch / rank.count;
    batch.arrays_.clear(rank.index * share);
    for (std::int64_t i = rank.index * share; i < (rank.index + 1) * share; ++i) {
      for (const Piece& piece : samples[static_cast<std::size_t>(i)]) {
        tokens.resize(static_cast<std::size_t>(piece.count) + 1);
        by_index[static_cast<std::size_t>(piece.source)]->read(piece.start, tokens);
        batch.arrays_.append(tokens);
      }
    }
    batch.ledger_after_ = sampler.ledger();
  }

  void start() {
    ahead = worker.submit([this, batch = &batches[filling]] { fill(*batch); });
  }
};

Loader::Loader(const LoaderConfig& config, std::vector<BlendSource> sources, DataRank rank,
               std::optional<Ledger> resume_from) {
  const BatchLayout layout = layout_of(config, sources, rank);
  const Sampler::Config sampling{.seed = config.seed, .sequence = config.sequence};
  Sampler sampler = resume_from ? Sampler{sampling, specs(sources), std::move(*resume_from)}
                                : Sampler{sampling, specs(sources)};
  impl_ = std::make_unique<Impl>(config, std::move(sources), rank, std::move(sampler), layout);
  impl_->start();
}

Loader::~Loader() = default;
Loader::Loader(Loader&&) noexcept = default;
Loader& Loader::operator=(Loader&&) noexcept = default;

const StepBatch& Loader::next() {
  expect(impl_->ahead.valid(), "the loader has failed before");
  impl_->ahead.get();
  const StepBatch& ready = impl_->batches[impl_->filling];
  impl_->delivered = ready.ledger_after();
  impl_->filling = 1 - impl_->filling;
  impl_->start();
  return ready;
}

const Ledger& Loader::ledger() const {
  return impl_->delivered;
}

EvalLoader::EvalLoader(const EvalConfig& config, std::shared_ptr<const TokenDataset> dataset,
                       DataRank rank)
    : config_{config},
      dataset_{std::move(dataset)},
      rank_{rank},
      arrays_{{.sequence = config.sequence,
               .sequences = config.micro_batch,
               .micro_batch = config.micro_batch,
               .eos_id = static_cast<std::int32_t>(dataset_->info().eos_id),
               .cross_document = config.cross_document}} {
  check_rank(rank);
  const std::int64_t inputs = dataset_->num_tokens() - 1;
  require(inputs >= 1, "dataset " + dataset_->folder().string() + " has nothing to predict");
  num_sequences_ = ceil_div(inputs, config_.sequence);
  if (config_.max_sequences > 0) num_sequences_ = std::min(num_sequences_, config_.max_sequences);
  num_micro_batches_ = ceil_div(num_sequences_, rank_.count * config_.micro_batch);
}

BatchView EvalLoader::micro_batch(std::int64_t index) {
  expect(index >= 0 && index < num_micro_batches_, "no such evaluation batch");
  const std::int64_t inputs = dataset_->num_tokens() - 1;
  const std::int64_t first = (index * rank_.count + rank_.index) * config_.micro_batch;
  arrays_.clear(first);
  for (std::int64_t window = first; window < first + config_.micro_batch; ++window) {
    const std::int64_t start = window * config_.sequence;
    const std::int64_t count =
        window < num_sequences_ ? std::min(config_.sequence, inputs - start) : 0;
    if (count > 0) {
      tokens_.resize(static_cast<std::size_t>(count) + 1);
      dataset_->read(start, tokens_);
      arrays_.append(tokens_);
    }
    if (count < config_.sequence) arrays_.pad_sequence();
  }
  return arrays_.view(0);
}

}  // namespace shoal::data
