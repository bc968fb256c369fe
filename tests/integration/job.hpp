#pragma once
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace shoal::test {

/// One job of the runner, of two ranks unless told otherwise; its output goes to FOLDER/output.
class Job {
 public:
  Job(const std::filesystem::path& folder, const std::string& run,
      const std::vector<std::string>& more, int ranks = 2)
      : folder_{folder} {
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::setpgid(0, 0);
    const std::string output = (folder / "output").string();
    (void)!std::freopen(output.c_str(), "w", stdout);
    ::dup2(::fileno(stdout), STDERR_FILENO);
    std::vector<std::string> words = {
        SHOAL_MPIEXEC, "--oversubscribe", "-np", std::to_string(ranks),
        SHOAL_RUNNER,  folder.string(),   run};
    words.insert(words.end(), more.begin(), more.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  [[nodiscard]] int wait() const {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  [[nodiscard]] pid_t rank_pid(int rank) const {
    std::ifstream file{folder_ / ("pid-" + std::to_string(rank))};
    pid_t pid = 0;
    file >> pid;
    return pid;
  }
  [[nodiscard]] std::string output() const {
    std::ostringstream text;
    text << std::ifstream{folder_ / "output"}.rdbuf();
    return text.str();
  }

 private:
  std::filesystem::path folder_;
  pid_t pid_ = 0;
};

}  // namespace shoal::test
