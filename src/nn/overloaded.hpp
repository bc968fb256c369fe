#pragma once

namespace shoal::nn {

/// Visitor of a variant made of one lambda for each alternative.
template <class... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <class... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

}  // namespace shoal::nn
