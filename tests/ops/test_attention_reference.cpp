#include <algorithm>
#include <cmath>

#include "ops/attention_reference.hpp"

namespace shoal::test {
namespace {

/// One query head of one token: everything that follows from its scores.
struct Row {
  std::int64_t t, head, begin;
  std::vector<double> p;  // probabilities of keys [begin, t]
  double lse;
};

class Reference {
 public:
  Reference(const AttentionCase& x, const AttentionValues& in, double scale)
      : x_{x}, in_{in}, scale_{scale}, start_{x.doc_start_of_token()} {}

  AttentionResult run() {
    const auto q = static_cast<std::size_t>(x_.T * x_.H * x_.d);
    const auto k = static_cast<std::size_t>(x_.T * x_.G * x_.d);
    out_.assign(q, 0.0);
    dq_.assign(q, 0.0);
    dk_.assign(k, 0.0);
    dv_.assign(k, 0.0);
    lse_.assign(static_cast<std::size_t>(x_.H * x_.T), 0.0);
    for (std::int64_t head = 0; head < x_.H; ++head) {
      for (std::int64_t t = 0; t < x_.T; ++t) {
        if (x_.active(t, head / (x_.H / x_.G))) add_row(scores(t, head));
      }
    }
    const auto floats = [](const std::vector<double>& v) {
      return std::vector<float>(v.begin(), v.end());
    };
    return {floats(out_), floats(lse_), floats(dq_), floats(dk_), floats(dv_)};
  }

 private:
  [[nodiscard]] std::size_t query_at(std::int64_t t, std::int64_t head) const {
    return static_cast<std::size_t>((t * x_.H + head) * x_.d);
  }
  [[nodiscard]] std::size_t key_at(std::int64_t t, std::int64_t head) const {
    return static_cast<std::size_t>((t * x_.G + head / (x_.H / x_.G)) * x_.d);
  }
  [[nodiscard]] double dot(const std::vector<float>& a, std::size_t i, const std::vector<float>& b,
                           std::size_t j) const {
    double sum = 0.0;
    for (std::size_t n = 0; n < static_cast<std::size_t>(x_.d); ++n) {
      sum += double{a[i + n]} * b[j + n];
    }
    return sum;
  }

  [[nodiscard]] Row scores(std::int64_t t, std::int64_t head) const {
    Row row{t, head, start_[static_cast<std::size_t>(t)], {}, 0.0};
    for (std::int64_t s = row.begin; s <= t; ++s) {
      row.p.push_back(scale_ * dot(in_.q, query_at(t, head), in_.k, key_at(s, head)));
    }
    const double maximum = *std::max_element(row.p.begin(), row.p.end());
    double sum = 0.0;
    for (const double score : row.p) sum += std::exp(score - maximum);
    row.lse = maximum + std::log(sum);
    for (double& score : row.p) score = std::exp(score - row.lse);
    return row;
  }

  void add_row(const Row& row) {
    const std::size_t q = query_at(row.t, row.head);
    lse_[static_cast<std::size_t>(row.head * x_.T + row.t)] = row.lse;
    double delta = 0.0;
    for (std::size_t s = 0; s < row.p.size(); ++s) {
      const std::size_t k = key_at(row.begin + static_cast<std::int64_t>(s), row.head);
      for (std::size_t i = 0; i < static_cast<std::size_t>(x_.d); ++i) {
        out_[q + i] += row.p[s] * in_.v[k + i];
        dv_[k + i] += row.p[s] * in_.dout[q + i];
      }
      delta += row.p[s] * dot(in_.dout, q, in_.v, k);
    }
    for (std::size_t s = 0; s < row.p.size(); ++s) {
      const std::size_t k = key_at(row.begin + static_cast<std::int64_t>(s), row.head);
      const double ds = scale_ * row.p[s] * (dot(in_.dout, q, in_.v, k) - delta);
      for (std::size_t i = 0; i < static_cast<std::size_t>(x_.d); ++i) {
        dq_[q + i] += ds * in_.k[k + i];
        dk_[k + i] += ds * in_.q[q + i];
      }
    }
  }

  const AttentionCase& x_;
  const AttentionValues& in_;
  double scale_;
  std::vector<std::int32_t> start_;
  std::vector<double> out_, lse_, dq_, dk_, dv_;
};

}  // namespace

AttentionResult attention_reference(const AttentionCase& x, const AttentionValues& in,
                                    double scale) {
  return Reference{x, in, scale}.run();
}

}  // namespace shoal::test
