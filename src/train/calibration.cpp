#include "shoal/train/calibration.hpp"

#include <array>
#include <cmath>

#include "shoal/base/error.hpp"

namespace shoal::train {
namespace {

constexpr const char* kFormat = "shoal-calibration-1";

struct Rate {
  const char* key;
  double ComputeRates::*field;
};
/// The one list from which both directions derive.
constexpr std::array kRates = {
    Rate{"attention_forward_flops_per_s", &ComputeRates::attention_forward_flops_per_s},
    Rate{"attention_backward_flops_per_s", &ComputeRates::attention_backward_flops_per_s},
    Rate{"norm_bytes_per_s", &ComputeRates::norm_bytes_per_s},
    Rate{"swiglu_bytes_per_s", &ComputeRates::swiglu_bytes_per_s},
    Rate{"permute_bytes_per_s", &ComputeRates::permute_bytes_per_s},
    Rate{"cross_entropy_bytes_per_s", &ComputeRates::cross_entropy_bytes_per_s},
    Rate{"optimizer_bytes_per_s", &ComputeRates::optimizer_bytes_per_s},
    Rate{"copy_bytes_per_s", &ComputeRates::copy_bytes_per_s}};

struct LinkKey {
  const char* key;
  Link LinkSet::*field;
};
constexpr std::array kLinks = {
    LinkKey{"all_reduce", &LinkSet::all_reduce}, LinkKey{"all_gather", &LinkSet::all_gather},
    LinkKey{"all_to_all", &LinkSet::all_to_all}, LinkKey{"send_recv", &LinkSet::send_recv}};

io::Json to_json(const MatmulRate& rate) {
  return {{"flops_per_s", rate.flops_per_s},
          {"bytes_per_s", rate.bytes_per_s},
          {"launch_s", rate.launch_s}};
}

io::Json to_json(const LinkSet& set) {
  io::Json json = io::Json::object();
  for (const LinkKey& link : kLinks) {
    const Link& l = set.*link.field;
    json[link.key] = {{"latency_s", l.latency_s}, {"bytes_per_s", l.bytes_per_s}};
  }
  return json;
}

double positive(const io::Json& json, const char* key, std::string_view what) {
  const auto value = io::get_field<double>(json, key, what);
  require(std::isfinite(value) && value > 0.0,
          std::string{what} + ": key \"" + key + "\" must be a number above 0");
  return value;
}

double not_negative(const io::Json& json, const char* key, std::string_view what) {
  const auto value = io::get_field<double>(json, key, what);
  require(std::isfinite(value) && value >= 0.0,
          std::string{what} + ": key \"" + key + "\" must be a number from 0 on");
  return value;
}

MatmulRate matmul_from_json(const io::Json& json, const char* key, std::string_view what) {
  const auto object = io::get_field<io::Json>(json, key, what);
  return {.flops_per_s = positive(object, "flops_per_s", what),
          .bytes_per_s = positive(object, "bytes_per_s", what),
          .launch_s = not_negative(object, "launch_s", what)};
}

LinkSet links_from_json(const io::Json& json, std::string_view what) {
  LinkSet set;
  for (const LinkKey& link : kLinks) {
    const auto object = io::get_field<io::Json>(json, link.key, what);
    set.*link.field = {.latency_s = not_negative(object, "latency_s", what),
                       .bytes_per_s = positive(object, "bytes_per_s", what)};
  }
  return set;
}

LinkSet uniform(double latency_s, double bytes_per_s) {
  const Link link{.latency_s = latency_s, .bytes_per_s = bytes_per_s};
  return {link, link, link, link};
}

}  // namespace

Calibration published_calibration(double memory_gb, const std::string& precision) {
  const bool large = memory_gb > 100.0;
  const bool half = precision != "fp32";
  const double memory = large ? 4.3e12 : 3.0e12;  // reached by a copy of 4.8 and 3.35 TB/s
  Calibration c;
  c.device = large ? "H200 SXM" : "H100 SXM";
  c.source = "published figures for " + c.device +
             ": 790 TFLOP/s bf16 products, attention 450/430, grouped products 70 % of dense, "
             "NVLink 360 GB/s and network 45 GB/s a GPU; no measurement of this machine";
  c.precision = precision;
  c.compute.dense = {.flops_per_s = half ? 790e12 : 50e12, .bytes_per_s = memory, .launch_s = 4e-6};
  c.compute.grouped = c.compute.dense;
  c.compute.grouped.flops_per_s *= 0.7;
  c.compute.attention_forward_flops_per_s = half ? 450e12 : 40e12;
  c.compute.attention_backward_flops_per_s = half ? 430e12 : 35e12;
  for (const Rate& rate : kRates) {
    if (std::string_view{rate.key}.ends_with("bytes_per_s")) c.compute.*rate.field = 0.85 * memory;
  }
  c.compute.copy_bytes_per_s = memory;
  c.compute.launch_s = 3e-6;
  c.intra_node = uniform(3e-6, 360e9);
  c.inter_node = uniform(8e-6, 45e9);
  c.overlap = 0.8;
  return c;
}

io::Json to_json(const Calibration& c) {
  io::Json compute = {{"matmul", to_json(c.compute.dense)},
                      {"grouped_matmul", to_json(c.compute.grouped)},
                      {"launch_s", c.compute.launch_s}};
  for (const Rate& rate : kRates) compute[rate.key] = c.compute.*rate.field;
  return {{"format", kFormat},
          {"source", c.source},
          {"device", c.device},
          {"host", c.host},
          {"precision", c.precision},
          {"ranks", c.ranks},
          {"hosts", c.hosts},
          {"compute", compute},
          {"intra_node", to_json(c.intra_node)},
          {"inter_node", to_json(c.inter_node)},
          {"intra_node_measured", c.intra_measured},
          {"inter_node_measured", c.inter_measured},
          {"whole_pass_factor", c.whole_pass_factor},
          {"overlap_share", c.overlap}};
}

Calibration calibration_from_json(const io::Json& json, std::string_view what) {
  require(io::get_field<std::string>(json, "format", what) == kFormat,
          std::string{what} + ": not a file of `shoal bench --calibrate` (format " + kFormat + ")");
  Calibration c;
  c.source = io::get_field<std::string>(json, "source", what);
  c.device = io::get_field<std::string>(json, "device", what);
  c.host = io::get_field<std::string>(json, "host", what);
  c.precision = io::get_field<std::string>(json, "precision", what);
  c.ranks = io::get_field<int>(json, "ranks", what);
  c.hosts = io::get_field<int>(json, "hosts", what);
  const auto compute = io::get_field<io::Json>(json, "compute", what);
  c.compute.dense = matmul_from_json(compute, "matmul", what);
  c.compute.grouped = matmul_from_json(compute, "grouped_matmul", what);
  c.compute.launch_s = not_negative(compute, "launch_s", what);
  for (const Rate& rate : kRates) c.compute.*rate.field = positive(compute, rate.key, what);
  c.intra_node = links_from_json(io::get_field<io::Json>(json, "intra_node", what), what);
  c.inter_node = links_from_json(io::get_field<io::Json>(json, "inter_node", what), what);
  c.intra_measured = io::get_field<bool>(json, "intra_node_measured", what);
  c.inter_measured = io::get_field<bool>(json, "inter_node_measured", what);
  c.whole_pass_factor = positive(json, "whole_pass_factor", what);
  c.overlap = not_negative(json, "overlap_share", what);
  require(c.overlap <= 1.0, std::string{what} + ": key \"overlap_share\" must be at most 1");
  return c;
}

Calibration read_calibration(const std::filesystem::path& path) {
  return calibration_from_json(io::read_json_file(path), path.string());
}

}  // namespace shoal::train
