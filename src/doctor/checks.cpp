#include "doctor/checks.hpp"

namespace vixen {

std::span<const Check> doctor_checks() {
  // Cheap ones first: they explain what later ones stumble over.
  static constexpr Check kChecks[] = {
      {"versions", check_versions},
      {"CPUs", check_cpus},
      {"memory", check_memory},
      {"ranks", check_ranks},
      {"GPUs", check_gpus},
      {"files", check_files},
      {"collectives", check_collectives},
      {"search", check_search},
      {"kernels", check_kernels},
      {"training", check_training_kernels},
      {"rates", check_rates},
  };
  return kChecks;
}

const char* name_of(Health health) {
  switch (health) {
    case Health::kGood:
      return "ok";
    case Health::kNote:
      return "note";
    case Health::kBad:
      return "WRONG";
    case Health::kSkipped:
      return "skipped";
  }
  return "";
}

}  // namespace vixen
