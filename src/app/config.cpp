#include "shoal/app/config.hpp"

#include "app/keys.hpp"

namespace shoal::app {

KeyTable make_key_table(Config& config) {
  KeyTable table;
  add_text_keys(table, config);
  add_model_keys(table, config);
  return table;
}

}  // namespace shoal::app
