// What a command may write, checked against what it reads and what exists already: the one place for all commands.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "config/config.hpp"

namespace vixen {

/// A file or folder that a command reads, and what names it ("--data.path", "the run's base model").
struct InputPath {
  std::string named;
  std::filesystem::path path;
};

/// Everything that the command of `config` reads: keys with a path, --config files, and what a run depends on (its data
/// set, base model and adapter, as RUN/config.ini has them). Files that are not there are named all the same.
std::vector<InputPath> inputs_of(const Config& config);

/// Whether vixen wrote the file, by its content: created_by in HDF5 and JSON, metrics, the header of a table, the
/// generator of a page, or a record beside it that lists it. An empty file counts: nothing is lost with it.
bool made_by_vixen(const std::filesystem::path& file);

/// UserError unless `out` is a name that a file may be written to: none of the inputs by whatever name, not among what
/// a run consists of, in a folder that is there and can be written, and free or made by vixen. `named`: the key, for
/// messages ("--out").
void check_output_file(const std::string& named, const std::filesystem::path& out,
                       const std::vector<InputPath>& inputs);

/// The same of a folder that is written as a whole: neither an input nor above one, free, empty, or made by vixen
/// (base/made_folder.hpp).
void check_output_folder(const std::string& named, const std::filesystem::path& out,
                         const std::vector<InputPath>& inputs);

/// The same of the run folder that training writes: what it will put there must be its own or not there yet.
void check_run_folder(const std::filesystem::path& run, const std::vector<InputPath>& inputs);

/// The files of a FAISS export to `out`: the index (in a folder that is there: labels.faiss), the labels' texts
/// (NAME.txt) and the record that lists them, in this order.
std::vector<std::filesystem::path> index_files(const std::filesystem::path& out);

/// Beside FILE.faiss: FILE.vixen.json, which lists the files that belong together.
std::filesystem::path record_beside(const std::filesystem::path& file);

}  // namespace vixen
