#include "shoal/train/cost_model.hpp"

#include <algorithm>
#include <cmath>

#include "shoal/pipeline/stage_split.hpp"
#include "train/layer_cost.hpp"
#include "train/update_cost.hpp"

namespace shoal::train {
namespace {

/// Longer runs of equal micro-batches are executed up to here and continued in proportion.
constexpr int kMicroBatchesAChunk = 6;

double work_of(const pipeline::ChunkCost& c) {
  return c.forward + c.backward_input + c.backward_weight;
}

/// Idle time of the schedule's theory, from the work of the slowest rank.
double theory_bubble(const pipeline::ScheduleShape& shape, const pipeline::ChunkCost& rank) {
  const double others = shape.stages - 1;
  switch (shape.kind) {
    case pipeline::ScheduleKind::interleaved:
      return others * work_of(rank) / shape.chunks;
    case pipeline::ScheduleKind::zb_h1:
      return others * std::max(0.0, rank.forward + rank.backward_input - rank.backward_weight);
    case pipeline::ScheduleKind::zbv:
      return others * work_of(rank) / (6.0 * shape.chunks);
    default:
      return others * work_of(rank);
  }
}

pipeline::Costs costs_of(const std::vector<ChunkWork>& works, double transfer_s) {
  pipeline::Costs costs{.chunks = {}, .transfer = transfer_s};
  for (const ChunkWork& work : works) costs.chunks.push_back(work.seconds);
  return costs;
}

const pipeline::ChunkCost& slowest(const std::vector<pipeline::ChunkCost>& ranks) {
  return *std::max_element(ranks.begin(), ranks.end(),
                           [](const auto& a, const auto& b) { return work_of(a) < work_of(b); });
}

/// What the micro-batches of a step make each pipeline rank send.
void add_pipeline_traffic(const pipeline::ScheduleShape& shape, const std::vector<ChunkWork>& works,
                          double border_bytes, std::vector<AxisTraffic>& sent) {
  const auto rank_of = [&shape](std::size_t chunk) {
    return pipeline::place_of(shape, static_cast<int>(chunk)).rank;
  };
  for (std::size_t i = 0; i < works.size(); ++i) {
    AxisTraffic& rank = sent[static_cast<std::size_t>(rank_of(i))];
    rank += works[i].sent.times(shape.micro_batches);
    if (i + 1 == works.size() || rank_of(i) == rank_of(i + 1)) continue;
    rank.pp += shape.micro_batches * border_bytes;  // activations
    sent[static_cast<std::size_t>(rank_of(i + 1))].pp +=
        shape.micro_batches * border_bytes;  // their gradients
  }
}

}  // namespace

AxisTraffic& AxisTraffic::operator+=(const AxisTraffic& other) {
  tp += other.tp;
  ep += other.ep;
  pp += other.pp;
  dp += other.dp;
  return *this;
}

AxisTraffic AxisTraffic::times(double factor) const {
  return {tp * factor, ep * factor, pp * factor, dp * factor};
}

double expected_destinations(int ranks, std::int64_t slots) {
  return ranks * (1.0 - std::pow(1.0 - 1.0 / ranks, static_cast<double>(slots)));
}

std::vector<nn::StageRange> model_chunks(const RunConfig& config) {
  const pipeline::ScheduleShape shape{
      .kind = pipeline::schedule_from_name(config.parallel.schedule),
      .stages = config.parallel.pp,
      .micro_batches = 1,
      .chunks = config.parallel.chunks};
  return pipeline::model_ranges(pipeline::chunk_layers({.config = config.model,
                                                        .stages = config.parallel.stages,
                                                        .sequence = config.training.seq_len},
                                                       shape));
}

struct CostModel::Prepared {
  RunConfig config;
  int dp = 1, edp = 1;
  BatchShape shape;
  pipeline::ScheduleShape schedule;
  std::vector<nn::StageRange> ranges;
  std::vector<ChunkWork> works;            ///< of each model chunk
  std::vector<pipeline::ChunkCost> ranks;  ///< of each pipeline rank, one micro-batch
  double transfer_s = 0.0;
  double border_bytes = 0.0;
};

CostModel::Prepared CostModel::prepare(const RunConfig& config, int ranks) const {
  const parallel::Layout layout = parallel::make_layout(config.parallel, ranks);
  Prepared p{.config = config,
             .dp = layout.dense.size("dp"),
             .edp = layout.expert.size("edp"),
             .shape = batch_shape(config.training, layout.dense.size("dp"))};
  p.config.training.micro_batch_size = p.shape.micro_batch;
  p.schedule = {.kind = pipeline::schedule_from_name(config.parallel.schedule),
                .stages = config.parallel.pp,
                .micro_batches = static_cast<int>(p.shape.micro_batches),
                .chunks = config.parallel.chunks};
  const NetworkCost network{calibration_, per_node_};
  const LayerCost cost{p.config, calibration_, network};
  p.ranges = model_chunks(p.config);
  p.border_bytes = config.parallel.pp > 1 ? cost.border_bytes() : 0.0;
  p.transfer_s =
      config.parallel.pp > 1 ? network.send(ranks / config.parallel.pp, p.border_bytes) : 0.0;
  p.ranks.resize(static_cast<std::size_t>(config.parallel.pp), {0.0, 0.0, 0.0});
  for (std::size_t i = 0; i < p.ranges.size(); ++i) {
    p.works.push_back(cost.chunk(p.ranges[i]));
    const auto place = pipeline::place_of(p.schedule, static_cast<int>(i));
    pipeline::ChunkCost& rank = p.ranks[static_cast<std::size_t>(place.rank)];
    rank.forward += p.works.back().seconds.forward;
    rank.backward_input += p.works.back().seconds.backward_input;
    rank.backward_weight += p.works.back().seconds.backward_weight;
  }
  return p;
}

StepCost CostModel::complete(const Prepared& p, StepCost cost) const {
  const RunConfig& c = p.config;
  const int ranks = p.dp * c.parallel.tp * c.parallel.pp;
  const NetworkCost network{calibration_, per_node_};
  const Replicas replicas = replicas_of(c.parallel, ranks);
  const auto held = held_parameters(c, p.ranges);
  std::vector<AxisTraffic> sent(held.size());
  for (std::size_t r = 0; r < held.size(); ++r) {
    const UpdateCost update = update_cost(c, held[r], replicas, calibration_, network);
    const pipeline::ChunkCost& micro = p.ranks[r];
    // Gradients go out beside the last backward, weights come in beside the next forward.
    const double hidden = std::min(calibration_.overlap * update.reduce_s,
                                   micro.backward_input + micro.backward_weight + micro.forward);
    cost.reduce_s = std::max(cost.reduce_s, update.reduce_s - hidden);
    cost.optimizer_s = std::max(cost.optimizer_s, update.optimizer_s);
    sent[r] = update.sent;
  }
  add_pipeline_traffic(p.schedule, p.works, p.border_bytes, sent);
  cost.sent = *std::max_element(sent.begin(), sent.end(),
                                [](const auto& a, const auto& b) { return a.total() < b.total(); });
  if (c.model.tie_word_embeddings && c.parallel.pp > 1) {
    const double table = static_cast<double>(c.model.vocab_size * c.model.hidden_size) /
                         c.parallel.tp * sizeof(float);
    const GroupShape ends{.size = 2, .stride = ranks - ranks / c.parallel.pp};
    cost.sent.pp += ring_all_reduce_bytes(2, table);
    cost.reduce_s += network.all_reduce(ends, table);
  }
  cost.seconds = cost.pipeline_s + cost.reduce_s + cost.optimizer_s;
  cost.tokens_per_s =
      static_cast<double>(c.training.global_batch_size * c.training.seq_len) / cost.seconds;
  return cost;
}

StepCost CostModel::step(const RunConfig& config, int ranks) const {
  const Prepared p = prepare(config, ranks);
  pipeline::ScheduleShape shape = p.schedule;
  const int all = shape.micro_batches;
  shape.micro_batches = std::min(all, kMicroBatchesAChunk * shape.model_chunks());
  const double further = all - shape.micro_batches;
  const pipeline::Timeline line = pipeline::simulate(shape, costs_of(p.works, p.transfer_s));
  StepCost cost;
  const double busiest = work_of(slowest(p.ranks));
  cost.pipeline_s = line.finish + further * busiest;
  double busy = 0.0;
  for (const pipeline::ChunkCost& rank : p.ranks) busy += all * work_of(rank);
  cost.bubble_share =
      std::max(0.0, 1.0 - busy / (static_cast<double>(p.ranks.size()) * cost.pipeline_s));
  return complete(p, cost);
}

StepCost CostModel::quick_step(const RunConfig& config, int ranks) const {
  const Prepared p = prepare(config, ranks);
  const pipeline::ChunkCost& rank = slowest(p.ranks);
  StepCost cost;
  const double idle = theory_bubble(p.schedule, rank);
  const double transfers = 2.0 * (p.schedule.model_chunks() - 1) * p.transfer_s;
  cost.pipeline_s = p.schedule.micro_batches * work_of(rank) + idle + transfers;
  cost.bubble_share = (idle + transfers) / cost.pipeline_s;
  return complete(p, cost);
}

pipeline::Timeline CostModel::timeline(const RunConfig& config, int ranks) const {
  const Prepared p = prepare(config, ranks);
  return pipeline::simulate(p.schedule, costs_of(p.works, p.transfer_s));
}

std::vector<ChunkWork> CostModel::chunks(const RunConfig& config, int ranks) const {
  return prepare(config, ranks).works;
}

}  // namespace shoal::train
