#pragma once
#include <gtest/gtest.h>

#include <string>

namespace shoal::test {

/// Passes when `body` throws Exception and its text contains `part`.
template <class Exception, class Body>
::testing::AssertionResult throws_with(Body body, const std::string& part) {
  try {
    body();
  } catch (const Exception& error) {
    const std::string text = error.what();
    if (text.find(part) != std::string::npos) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << "expected \"" << part << "\" in: " << text;
  }
  return ::testing::AssertionFailure() << "nothing was thrown, expected \"" << part << "\"";
}

}  // namespace shoal::test
