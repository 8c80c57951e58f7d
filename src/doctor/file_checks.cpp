// The folder that runs are to be written to: what a run does there, done once on a small scale.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <random>

#include "base/atomic_file.hpp"
#include "base/check.hpp"
#include "base/file.hpp"
#include "base/lap.hpp"
#include "data/hdf5_matrix.hpp"
#include "doctor/checks.hpp"

namespace vixen {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kBytes = int64_t{64} << 20;

/// A folder of this check's own within another, removed with all that is in it.
class ScratchFolder {
 public:
  explicit ScratchFolder(const fs::path& within)
      : path_(within / fmt::format("vixen-doctor-{:08x}", std::random_device{}())) {
    make_folder(path_);
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

Finding writing_finding(const fs::path& folder) {
  const std::string bytes(static_cast<size_t>(kBytes), 'v');
  const Lap lap;
  write_text_atomically(folder / "checkpoint", bytes);
  const double rate = static_cast<double>(kBytes) / lap.total() / 1e6;
  const std::string found = fmt::format("{:.0f} MB/s with fsync and rename", rate);
  if (rate >= 50) return good("writing", found);
  return note("writing", found, "checkpoints will take long: write to a faster file system (scratch, not home)");
}

Finding link_finding(const fs::path& folder) {
  const auto from = folder / "lock.new", to = folder / "lock";
  std::ofstream(from) << "x";
  if (::link(from.c_str(), to.c_str()) == 0) return good("links", "a lock appears in one step");
  return note("links", std::strerror(errno),
              "no hard links here: two jobs that start in one moment could both take a run folder");
}

Finding hdf5_finding(const fs::path& folder) {
  const auto path = folder / "matrix.h5";
  const at::Tensor rows = at::arange(600, at::kFloat).view({100, 6});
  MatrixWriter writer(path);
  writer.add("embeddings", 100, 6, at::kHalf);
  writer.write("embeddings", 0, rows.to(at::kHalf));
  writer.close();
  const MatrixReader reader({path.string(), "/embeddings"});
  const bool same = at::equal(reader.read_float({0, 100}), rows);
  if (same) return good("HDF5", "written and read");
  return bad("HDF5", "reads other values than were written", "no runs in this folder: is its file system sound?");
}

}  // namespace

Findings check_files(Patient& patient) {
  Findings findings;
  auto& host = patient.host;
  const fs::path folder = patient.config.doctor.dir.empty() ? "." : patient.config.doctor.dir;
  std::optional<ScratchFolder> scratch;
  std::string shown, trouble;
  if (patient.session.rank() == 0) {
    try {
      scratch.emplace(folder);
      shown = fs::absolute(scratch->path()).string();
      struct statvfs room = {};
      if (::statvfs(shown.c_str(), &room) == 0) {
        const double free = static_cast<double>(room.f_bavail) * static_cast<double>(room.f_frsize) / 1e9;
        findings.push_back(
            free >= 10 ? good("room", fmt::format("{:.0f} GB free", free))
                       : note("room", fmt::format("{:.1f} GB free", free),
                              "checkpoints of a run are several times its model: `vixen train` says what it needs"));
      }
      findings.push_back(writing_finding(scratch->path()));
      findings.push_back(link_finding(scratch->path()));
      findings.push_back(hdf5_finding(scratch->path()));
    } catch (const std::exception& error) {  // the others wait for what comes below
      trouble = error.what();
      findings.push_back(bad("folder", trouble, "give a folder that this user may write to: --doctor.dir"));
    }
  }
  shown = host.broadcast_host(shown, 0);
  std::error_code error;
  const bool seen = shown.empty() || fs::exists(shown, error);
  host.barrier();  // before the folder goes
  if (!seen)
    findings.push_back(bad("shared folder", fmt::format("what rank 0 writes to {} is not seen here", folder.string()),
                           "run folders and data must lie on a file system that all nodes mount"));
  else if (!shown.empty())
    findings.push_back(good("shared folder", "all ranks see what rank 0 writes"));
  return findings;
}

}  // namespace vixen
