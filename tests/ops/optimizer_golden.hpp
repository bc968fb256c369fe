#pragma once
// Made by scripts/reference/make_optimizer_golden.py with torch 2.15.0+cu132:
// torch.optim.AdamW in float64, lr 2^-8, betas 0.875 and 0.96875, eps 2^-20,
// weight decay 0.125, gradient ((7 step + 13 i) mod 17 - 8) / 16.
#include <array>

namespace shoal::test {

inline constexpr std::array<double, 5> kAdamWStart = {1.0, -0.5, 0.25, 2.0, -3.0};

struct AdamWGolden {
  int steps;
  std::array<double, 5> p;
};
inline constexpr std::array<AdamWGolden, 4> kAdamWGolden = {{
    {1,
     {1.0034179612994336, -0.5036620974541074, 0.24597173929123528, 2.002929667631886,
      -2.9946289147649305}},
    {2,
     {1.0058742814306973, -0.5031557528236444, 0.24263302112597565, 2.0011432461151637,
      -2.9905680011099762}},
    {10,
     {1.005954619543019, -0.4961635369810757, 0.23665985767003953, 1.9931108307019585,
      -2.9808347899277585}},
    {40,
     {0.9918227969856129, -0.4897787333009613, 0.231578260891874, 1.9657619162363933,
      -2.935713352647124}},
}};

}  // namespace shoal::test
