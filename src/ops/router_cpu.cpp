#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ops/cpu_math.hpp"
#include "ops/router_detail.hpp"

namespace shoal::ops::cpu {
namespace {

void softmax_row(float* score_E, const float* logits_E, std::int64_t E) {
  const float top = *std::max_element(logits_E, logits_E + E);
  float sum = 0.0F;
  for (std::int64_t e = 0; e < E; ++e) {
    score_E[e] = std::exp(logits_E[e] - top);
    sum += score_E[e];
  }
  for (std::int64_t e = 0; e < E; ++e) score_E[e] /= sum;
}

void sigmoid_row(float* score_E, const float* logits_E, std::int64_t E) {
  for (std::int64_t e = 0; e < E; ++e) score_E[e] = 1.0F / (1.0F + std::exp(-logits_E[e]));
}

float logsumexp_row(const float* logits_E, std::int64_t E) {
  const float top = *std::max_element(logits_E, logits_E + E);
  float sum = 0.0F;
  for (std::int64_t e = 0; e < E; ++e) sum += std::exp(logits_E[e] - top);
  return top + std::log(sum);
}

/// The K experts with the largest score + bias. Each is the best one that comes after its
/// predecessor in the order (key descending, index ascending), so ties need no bookkeeping. NaN
/// ranks last: the indices are valid whatever the scores are.
void choose_row(std::int32_t* index_K, std::int64_t K, const float* score_E, const float* bias_E,
                std::int64_t E) {
  float last_key = std::numeric_limits<float>::infinity();
  std::int32_t last = -1;
  for (std::int64_t k = 0; k < K; ++k) {
    float best_key = 0.0F;
    std::int32_t best = -1;
    for (std::int32_t e = 0; e < E; ++e) {
      float key = score_E[e] + (bias_E == nullptr ? 0.0F : bias_E[e]);
      if (std::isnan(key)) key = -std::numeric_limits<float>::infinity();
      const bool later = key < last_key || (key == last_key && e > last);
      if (later && (best < 0 || key > best_key)) {
        best_key = key;
        best = e;
      }
    }
    index_K[k] = last = best;
    last_key = best_key;
  }
}

float chosen_sum(const std::int32_t* index_K, std::int64_t K, const float* score_E) {
  float sum = 0.0F;
  for (std::int64_t k = 0; k < K; ++k) sum += score_E[index_K[k]];
  return sum + kTinyScore;
}

/// Factor that makes a token's scores sum to one over the experts.
float normaliser(RouterScore kind, const float* score_E, std::int64_t E) {
  if (kind == RouterScore::softmax) return 1.0F;
  return 1.0F / (std::accumulate(score_E, score_E + E, 0.0F) + kTinyScore);
}

/// Adds the statistics of tokens [begin, end) to one chunk's partial sums.
struct ChunkSums {
  float* score_E;
  std::int32_t* count_E;
  float* entropy_z;
};
void add_chunk(const ChunkSums& out, const RouterStatistics& a, std::int64_t begin,
               std::int64_t end) {
  const std::int64_t E = a.score_TE.dim(1), K = a.index_TK.dim(1);
  for (std::int64_t t = begin; t < end; ++t) {
    const float* score_E = a.score_TE.data<float>() + t * E;
    const float factor = normaliser(a.score, score_E, E);
    for (std::int64_t e = 0; e < E; ++e) {
      const float p = score_E[e] * factor;
      out.score_E[e] += p;
      if (p > 0.0F) out.entropy_z[0] -= p * std::log(p);
    }
    for (std::int64_t k = 0; k < K; ++k) ++out.count_E[a.index_TK.data<std::int32_t>()[t * K + k]];
    const float lse = logsumexp_row(a.logits_TE.data<float>() + t * E, E);
    out.entropy_z[1] += lse * lse;
  }
}

/// Gradient with respect to the scores of one token.
void dscore_row(float* dscore_E, const RouterBackward& a, std::int64_t t) {
  const std::int64_t T = a.score_TE.dim(0), E = a.score_TE.dim(1), K = a.index_TK.dim(1);
  const float* score_E = a.score_TE.data<float>() + t * E;
  const float* dweight_K = a.dweight_TK.data<float>() + t * K;
  const float* weight_K = a.weight_TK.data<float>() + t * K;
  const std::int32_t* index_K = a.index_TK.data<std::int32_t>() + t * K;
  std::fill(dscore_E, dscore_E + E, 0.0F);
  if (!a.aux_scale.absent()) {
    const std::int64_t S = a.count_SE.dim(0), tokens = T / S;
    const std::int32_t* count_E = a.count_SE.data<std::int32_t>() + t / tokens * E;
    const float group = static_cast<float>(a.group_tokens > 0 ? a.group_tokens : tokens);
    const float scale = a.aux_scale.data<float>()[0] * static_cast<float>(E) /
                        (static_cast<float>(K) * group * group);
    const float factor = normaliser(a.score, score_E, E);
    float mean = 0.0F;  // sigmoid: the scores' normalisation takes the mean gradient out
    for (std::int64_t e = 0; e < E && a.score == RouterScore::sigmoid; ++e) {
      mean += scale * static_cast<float>(count_E[e]) * score_E[e] * factor;
    }
    for (std::int64_t e = 0; e < E; ++e) {
      dscore_E[e] = (scale * static_cast<float>(count_E[e]) - mean) * factor;
    }
  }
  float dot = 0.0F;
  for (std::int64_t k = 0; k < K && a.normalise; ++k) dot += dweight_K[k] * weight_K[k];
  const float sum = a.normalise ? chosen_sum(index_K, K, score_E) : 1.0F;
  for (std::int64_t k = 0; k < K; ++k) {
    dscore_E[index_K[k]] += (a.scaling * dweight_K[k] - dot) / sum;
  }
}

}  // namespace

void router_forward(const Exec&, const RouterForward& a) {
  const std::int64_t T = a.logits_TE.dim(0), E = a.logits_TE.dim(1), K = a.index_TK.dim(1);
  const float* bias_E = optional_data<float>(a.bias_E);
#pragma omp parallel for schedule(static) if (T * E > kParallelWork)
  for (std::int64_t t = 0; t < T; ++t) {
    const float* logits_E = a.logits_TE.data<float>() + t * E;
    float* score_E = a.score_TE.data<float>() + t * E;
    std::int32_t* index_K = a.index_TK.data<std::int32_t>() + t * K;
    (a.score == RouterScore::softmax ? softmax_row : sigmoid_row)(score_E, logits_E, E);
    choose_row(index_K, K, score_E, bias_E, E);
    const float sum = a.normalise ? chosen_sum(index_K, K, score_E) : 1.0F;
    for (std::int64_t k = 0; k < K; ++k) {
      a.weight_TK.data<float>()[t * K + k] = a.scaling * (score_E[index_K[k]] / sum);
    }
  }
}

void router_chunk_sums(const Exec& exec, const RouterStatistics& a) {
  const std::int64_t S = a.chunks.groups(), chunks = a.chunks.chunks();
  const std::int64_t E = a.score_TE.dim(1), tokens = a.index_TK.dim(0) / S;
  zero(exec, a.chunks.score_SCE);
  zero(exec, a.chunks.count_SCE);
  zero(exec, a.chunks.sums_SC2);
  float* score = a.chunks.score_SCE.data<float>();
  std::int32_t* count = a.chunks.count_SCE.data<std::int32_t>();
  float* sums = a.chunks.sums_SC2.data<float>();
#pragma omp parallel for schedule(static) if (S * tokens * E > kParallelWork)
  for (std::int64_t c = 0; c < S * chunks; ++c) {
    const std::int64_t group = c / chunks * tokens, begin = c % chunks * kStatisticsChunk;
    const std::int64_t end = std::min(begin + kStatisticsChunk, tokens);
    add_chunk({score + c * E, count + c * E, sums + 2 * c}, a, group + begin, group + end);
  }
}

void router_statistics(const Exec&, const RouterStatistics& a) {
  const std::int64_t S = a.count_SE.dim(0), E = a.count_SE.dim(1), tokens = a.index_TK.dim(0) / S;
  const std::int64_t chunks = a.chunks.chunks();
  const float* score = a.chunks.score_SCE.data<float>();
  const std::int32_t* count = a.chunks.count_SCE.data<std::int32_t>();
  const float* sums = a.chunks.sums_SC2.data<float>();
  for (std::int64_t s = 0; s < S; ++s) {
    for (std::int64_t e = 0; e < E; ++e) {
      float sum = 0.0F;
      std::int32_t chosen = 0;
      for (std::int64_t c = s * chunks; c < (s + 1) * chunks; ++c) {
        sum += score[c * E + e];
        chosen += count[c * E + e];
      }
      a.count_SE.data<std::int32_t>()[s * E + e] = chosen;
      a.mean_score_SE.data<float>()[s * E + e] =
          tokens == 0 ? 0.0F : sum / static_cast<float>(tokens);
    }
  }
  double entropy = 0.0, z = 0.0;
  for (std::int64_t c = 0; c < S * chunks; ++c) {
    entropy += sums[2 * c];
    z += sums[2 * c + 1];
  }
  a.entropy_sum.data<float>()[0] = static_cast<float>(entropy);
  a.z_sum.data<float>()[0] = static_cast<float>(z);
}

void router_backward(const Exec&, const RouterBackward& a) {
  const std::int64_t T = a.score_TE.dim(0), E = a.score_TE.dim(1);
  const float z_scale = a.z_scale.absent() ? 0.0F : a.z_scale.data<float>()[0];
#pragma omp parallel for schedule(static) if (T * E > kParallelWork)
  for (std::int64_t t = 0; t < T; ++t) {
    const float* score_E = a.score_TE.data<float>() + t * E;
    float* dlogits_E = a.dlogits_TE.data<float>() + t * E;
    dscore_row(dlogits_E, a, t);
    if (a.score == RouterScore::softmax) {
      const float dot = std::inner_product(score_E, score_E + E, dlogits_E, 0.0F);
      for (std::int64_t e = 0; e < E; ++e) dlogits_E[e] = score_E[e] * (dlogits_E[e] - dot);
    } else {
      for (std::int64_t e = 0; e < E; ++e) dlogits_E[e] *= score_E[e] * (1.0F - score_E[e]);
    }
    if (a.z_scale.absent()) continue;
    const float* logits_E = a.logits_TE.data<float>() + t * E;
    const float lse = logsumexp_row(logits_E, E);
    for (std::int64_t e = 0; e < E; ++e) {
      dlogits_E[e] += 2.0F * z_scale * lse * std::exp(logits_E[e] - lse);
    }
  }
}

void router_bias_update(const Exec&, const RouterBiasUpdate& a) {
  if (!a.skip.absent() && a.skip.data<std::int32_t>()[0] != 0) return;
  const std::int64_t E = a.bias_E.dim(0);
  const float* count_E = a.count_E.data<float>();
  // Counts are whole numbers: their sum is exact in double, so a balanced expert stays put.
  const double mean = std::accumulate(count_E, count_E + E, 0.0) / static_cast<double>(E);
  for (std::int64_t e = 0; e < E; ++e) {
    const double gap = mean - count_E[e];
    const float sign = gap > 0.0 ? 1.0F : gap < 0.0 ? -1.0F : 0.0F;
    a.bias_E.data<float>()[e] += a.rate * sign;
  }
}

}  // namespace shoal::ops::cpu
