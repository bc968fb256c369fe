#include <algorithm>
#include <cmath>
#include <cstdio>

#include "shoal/train/verify_layout.hpp"

namespace shoal::train {
namespace {

constexpr std::size_t kShown = 5;  // differences of routing in the text

double relative(const double (&pair)[2]) {
  const double scale = std::abs(pair[0]);
  return std::abs(pair[1] - pair[0]) / (scale > 0.0 ? scale : 1.0);
}

template <class... Args>
std::string format(const char* pattern, const Args&... args) {
  char text[256];
  std::snprintf(text, sizeof text, pattern, args...);
  return text;
}

const char* verdict(bool good) {
  return good ? "ok" : "DIFFERS";
}

std::string routing_text(const VerifyReport& r) {
  std::string text =
      format("routing           %lld choices, %lld differ  %s\n", static_cast<long long>(r.choices),
             static_cast<long long>(r.routing.size()), verdict(r.routing_agrees()));
  for (std::size_t i = 0; i < std::min(kShown, r.routing.size()); ++i) {
    const RoutingDifference& d = r.routing[i];
    text += format("  layer %lld token %lld: margin %.2e\n", static_cast<long long>(d.layer),
                   static_cast<long long>(d.token), d.margin);
  }
  if (r.replayed) text += "  gradients below: with the routing of one rank replayed\n";
  return text;
}

}  // namespace

bool VerifyReport::routing_agrees() const {
  return std::all_of(routing.begin(), routing.end(),
                     [this](const RoutingDifference& d) { return d.margin < near_tie; });
}

bool VerifyReport::passed() const {
  const bool good = std::all_of(parameters.begin(), parameters.end(),
                                [](const ParameterDeviation& p) { return p.passed(); });
  return good && same_samples && relative(loss) <= allowed_loss &&
         relative(grad_norm) <= allowed_loss && routing_agrees();
}

std::string VerifyReport::text() const {
  std::string text = "layout            " + layout + " against one rank\n";
  text += format("samples           %s\n", verdict(same_samples));
  text += routing_text(*this);
  text += format("loss              %.7f  %.7f  %.1e  %s\n", loss[0], loss[1], relative(loss),
                 verdict(relative(loss) <= allowed_loss));
  text += format("gradient norm     %.7f  %.7f  %.1e  %s\n", grad_norm[0], grad_norm[1],
                 relative(grad_norm), verdict(relative(grad_norm) <= allowed_loss));
  text +=
      format("%-48s %-6s %10s %10s %10s\n", "parameter", "start", "norm", "deviation", "allowed");
  for (const ParameterDeviation& p : parameters) {
    text += format("%-48s %-6s %10.3e %10.2e %10.2e  %s\n", p.name.c_str(),
                   p.same_start ? "same" : "OTHER", p.norm, p.deviation, p.allowed,
                   p.passed() ? "" : "DIFFERS");
  }
  const auto worst =
      std::max_element(parameters.begin(), parameters.end(), [](const auto& a, const auto& b) {
        return a.deviation / a.allowed < b.deviation / b.allowed;
      });
  if (worst != parameters.end()) {
    text += format("largest deviation %.2e of %.2e allowed: %s\n", worst->deviation, worst->allowed,
                   worst->name.c_str());
  }
  return text + (passed() ? "the layout agrees with one rank\n" : "THE LAYOUT DIFFERS\n");
}

}  // namespace shoal::train
