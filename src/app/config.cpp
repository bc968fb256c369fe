#include "shoal/app/config.hpp"

#include "app/keys.hpp"

namespace shoal::app {

KeyTable make_key_table(Config& config) {
  KeyTable table;
  add_prepare_keys(table, config.prepare);
  add_model_keys(table, config.run.model);
  add_run_keys(table, config.run);
  add_tool_keys(table, config);
  return table;
}

}  // namespace shoal::app
