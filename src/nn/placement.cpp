#include "shoal/nn/placement.hpp"

#include "shoal/nn/model_config.hpp"

namespace shoal::nn {
namespace {

/// Collects problems of one degree as "parallel.KEY = n; allowed: ...".
class DegreeChecker {
 public:
  DegreeChecker(const char* key, int degree, std::vector<std::string>& problems)
      : text_{"parallel." + std::string{key} + " = " + std::to_string(degree) + "; allowed: "},
        degree_{degree},
        problems_{&problems} {}

  void check(bool good, const std::string& allowed) {
    if (!good) problems_->push_back(text_ + allowed);
  }
  void divides(std::int64_t size, const char* what) {
    const bool good = degree_ >= 1 && size % degree_ == 0;
    check(good, "a divisor of " + std::string{what} + " = " + std::to_string(size));
  }

 private:
  std::string text_;
  int degree_;
  std::vector<std::string>* problems_;
};

bool has_moe_layer(const ModelConfig& c) {
  return c.num_experts > 1 && c.first_k_dense_replace < c.num_hidden_layers;
}
bool has_dense_layer(const ModelConfig& c) {
  return c.num_experts == 1 || c.first_k_dense_replace > 0;
}

void check_tensor_parallel(const ModelConfig& c, const SplitDegrees& degrees,
                           std::vector<std::string>& problems) {
  DegreeChecker tp{"tp", degrees.tp, problems};
  if (degrees.tp < 1) return tp.check(false, "at least 1");
  tp.divides(c.num_key_value_heads, "model.num_key_value_heads");
  tp.divides(c.num_attention_heads, "model.num_attention_heads");
  if (has_dense_layer(c)) tp.divides(c.intermediate_size, "model.intermediate_size");
  if (has_moe_layer(c) && c.n_shared_experts > 0) {
    tp.divides(c.n_shared_experts * c.moe_intermediate_size,
               "model.n_shared_experts * model.moe_intermediate_size");
  }
  tp.divides(c.vocab_size, "model.vocab_size");  // a size that is not known yet is 0
  tp.divides(degrees.tokens, "the tokens of a micro-batch, micro_batch_size * seq_len");
  tp.check(degrees.tp == 1 || c.capacity_factor == 0.0,
           "1 with model.capacity_factor > 0 (an expert keeps the first rows in the token order of "
           "a whole micro-batch, which no rank sees when its tokens are split)");
}

}  // namespace

void validate_placement(const ModelConfig& c, const SplitDegrees& degrees,
                        std::vector<std::string>& problems) {
  check_tensor_parallel(c, degrees, problems);
  DegreeChecker ep{"ep", degrees.ep, problems};
  if (has_moe_layer(c)) {
    ep.divides(c.num_experts, "model.num_experts");
  } else {
    ep.check(degrees.ep == 1, "1 (the model has no experts)");
  }
  DegreeChecker pp{"pp", degrees.pp, problems};
  const std::int64_t parts = std::int64_t{degrees.pp} * degrees.chunks;
  pp.check(degrees.pp >= 1 && parts <= c.num_hidden_layers,
           "1 to model.num_hidden_layers / parallel.chunks = " +
               std::to_string(c.num_hidden_layers) + " / " + std::to_string(degrees.chunks));
}

}  // namespace shoal::nn
