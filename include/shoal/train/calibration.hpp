#pragma once
#include <filesystem>
#include <string>

#include "shoal/io/json.hpp"

namespace shoal::train {

/// A message of n bytes takes latency_s + n / bytes_per_s (Hockney's alpha-beta model).
struct Link {
  double latency_s = 0.0;
  double bytes_per_s = 1.0;
  [[nodiscard]] double seconds(double bytes) const { return latency_s + bytes / bytes_per_s; }
};

/// What one rank gets while all ranks of its group talk. Latencies count for each ring step or
/// peer, bytes are those that the rank sends.
struct LinkSet {
  Link all_reduce, all_gather, all_to_all, send_recv;  ///< all_gather also for reduce-scatter
};

/// A matrix product of m x n x k takes launch_s + 2 m n k / flops_per_s + bytes of its operands /
/// bytes_per_s: small and thin products pay for their edges and their memory.
struct MatmulRate {
  double flops_per_s = 1.0;
  double bytes_per_s = 1.0;
  double launch_s = 0.0;
  [[nodiscard]] double seconds(double m, double n, double k, double element_bytes) const {
    return launch_s + 2.0 * m * n * k / flops_per_s +
           element_bytes * (m * n + n * k + m * k) / bytes_per_s;
  }
};

/// Speeds of one device. Bytes are those read and written by the op.
struct ComputeRates {
  MatmulRate dense;
  MatmulRate grouped;  ///< of a whole layer's experts: rows x n x k, all matrices read
  double attention_forward_flops_per_s = 1.0;   ///< causal: half of the square
  double attention_backward_flops_per_s = 1.0;  ///< 2.5 times the products of the forward
  double norm_bytes_per_s = 1.0;                ///< RMSNorm, rotary embedding, residual sums
  double swiglu_bytes_per_s = 1.0;
  double permute_bytes_per_s = 1.0;        ///< rows to their experts and back
  double cross_entropy_bytes_per_s = 1.0;  ///< logits read and gradients written
  double optimizer_bytes_per_s = 1.0;      ///< weights, gradients and states
  double copy_bytes_per_s = 1.0;
  double launch_s = 0.0;  ///< of one small op
};

/// Measured by `shoal bench --calibrate`, or published figures where nothing was measured.
struct Calibration {
  std::string source;  ///< "published figures for H100 SXM ...", or the file
  std::string device, host, precision;
  int ranks = 1, hosts = 1;  ///< of the measurement
  ComputeRates compute;
  /// By which the times of parts are stretched already, so that they add up to that of a whole
  /// forward and backward pass.
  double whole_pass_factor = 1.0;
  LinkSet intra_node, inter_node;
  bool intra_measured = false, inter_measured = false;
  double overlap = 0.0;  ///< share of the gradient reduction that can run beside the backward
};

/// Device with this much memory: H100 SXM up to 100 GB, H200 SXM above; 8 of them a node with
/// NVLink, one 400 Gb/s network card each.
[[nodiscard]] Calibration published_calibration(double memory_gb, const std::string& precision);

[[nodiscard]] io::Json to_json(const Calibration& calibration);
/// InputError names `what` and the key that is missing or out of range.
[[nodiscard]] Calibration calibration_from_json(const io::Json& json, std::string_view what);
[[nodiscard]] Calibration read_calibration(const std::filesystem::path& path);

}  // namespace shoal::train
