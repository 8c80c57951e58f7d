// Every command with its usage.
#include "config/keys.hpp"

namespace vixen {

const std::vector<Command>& all_commands() {
  static const std::vector<Command> commands = {
      {"train",
       "train a model; goes on by itself where a run stopped",
       "--data.path DATA.h5 --model.path HF_FOLDER --run.dir DIR",
       {"data.path", "model.path", "run.dir"}},
      {"embed",
       "encode a data set's queries or labels",
       "--data.path DATA.h5 --embed.side queries|labels --out FILE.h5",
       {"out"}},
      {"search",
       "exact top-k of any two HDF5 matrices",
       "--search.corpus FILE.h5[:/dataset] --search.queries FILE.h5[:/dataset] --search.k 100 --out FILE.h5",
       {"search.corpus", "search.queries", "out"}},
      {"evaluate",
       "metrics of a run, or of a predictions file, on a data set's test split",
       "--data.path DATA.h5 (--run.dir DIR | --evaluate.predictions FILE.h5) [--out metrics.json]",
       {}},
      {"predict",
       "top-k labels of any prepared data set",
       "--run.dir DIR --data.path DATA.h5 --predict.k 5 --out FILE [--text]",
       {"out"}},
      {"mine",
       "hard negatives of a data set's queries, by search over all labels",
       "(--run.dir DIR | --model.path HF_FOLDER) --data.path DATA.h5 --mine.k 10 --out FILE "
       "[--mine.format triplet] [--mine.corpus OTHER.h5]",
       {"out"}},
      {"export",
       "give a trained model to others: PEFT adapter, merged or sentence-transformers folder, FAISS index",
       "--run.dir DIR --export.format peft|merged|sentence-transformers|faiss --out FOLDER_OR_FILE",
       {"run.dir", "out"}},
      {"plan",
       "memory and time a GPU of a configuration, before anyone queues for it",
       "--model.path HF_FOLDER_OR_CONFIG.json [--data.path DATA.h5] [--plan.gpu h100] [--plan.world_size 8] [--out "
       "FILE.json]",
       {"model.path"}},
      {"inspect",
       "show what a data set, checkpoint or run is, and check it (exit code 2 when damaged)",
       "FILE_OR_FOLDER...",
       {},
       true},
      {"bench",
       "time the parts: step, encode, search, collectives, data",
       "[--data.path DATA.h5 --model.path HF_FOLDER]",
       {}},
      {"doctor",
       "is this machine, or this allocation, sound? Exit code 1 when something is wrong",
       "[--device cuda] [--doctor.dir RUNS_FOLDER] [--out FILE.json]",
       {}},
  };
  return commands;
}

}  // namespace vixen
