"""The layering check finds each kind of fault in a small made-up tree, and nothing in a tree without any."""

import unittest

from made_up_tree import TreeCheck

GOOD = {
    "base/check.hpp": "#pragma once\n#include <string>\n",
    "comm/session.cpp": '#include <mpi.h>\n#include <nccl.h>\n#include "base/check.hpp"\n',
    "kernels/norm.cpp": '#include <ATen/ATen.h>\n#include "kernels/norm.hpp"\n',
    "kernels/norm.hpp": "",
    "kernels/norm.cu": "#include <cuda_runtime.h>\n",
    "model/encoder.hpp": '#include "comm/session.hpp"\n',
    "comm/session.hpp": "",
    "main.cpp": '#include "commands/commands.hpp"\n',
    "commands/commands.hpp": '#include "model/encoder.hpp"\n',
}


class LayeringTest(TreeCheck):
    tool = "check_layering.py"
    good = GOOD

    def test_a_good_tree_has_no_fault(self):
        self.assertEqual(self.run_on({}), (0, "9 files, 0 faults\n"))

    def test_upward_and_peer_includes(self):
        self.assert_fault({"base/x.cpp": '#include "model/encoder.hpp"\n'}, "base/x.cpp:1:", "a higher layer")
        self.assert_fault({"kernels/x.cpp": '#include "comm/session.hpp"\n'}, "kernels/x.cpp:1:", "a higher layer")
        self.assert_fault({"data/x.cpp": '\n  # include "kernels/norm.hpp"\n'}, "data/x.cpp:2:", "a peer")

    def test_parts_of_a_folder(self):
        tree = {"model/bert/x.hpp": '#include "model/weights/y.hpp"\n#include "model/encoder.hpp"\n', "model/weights/y.hpp": ""}
        self.assertEqual(self.run_on(tree), (0, "11 files, 0 faults\n"))
        upward = {**tree, "model/weights/y.hpp": '#include "model/bert/x.hpp"\n'}
        self.assert_fault(upward, "model/weights/y.hpp:1:", "model/bert is not below it")
        self.assert_fault({**tree, "model/decoder/z.cpp": '#include "model/bert/x.hpp"\n'}, "model/bert is not below it")
        self.assert_fault({"base/deep/z.cpp": '#include "model/encoder.hpp"\n'}, "a higher layer")

    def test_headers_outside_their_rooms(self):
        for header in ("mpi.h", "nccl.h", "hdf5.h", "H5Dpublic.h", "faiss/Index.h", "boost/program_options.hpp", "openssl/evp.h"):
            self.assert_fault({"model/x.cpp": f"#include <{header}>\n"}, f"<{header}> belongs to")

    def test_torch_where_it_must_not_be(self):
        self.assert_fault({"kernels/x.cu": "#include <ATen/ATen.h>\n"}, "in a CUDA file")
        self.assert_fault({"kernels/x.cuh": "#include <c10/util/Half.h>\n"}, "in a CUDA file")
        self.assert_fault({"config/x.cpp": "#include <ATen/ATen.h>\n"}, "config knows no tensors")
        self.assert_fault({"model/x.cpp": "#include <torch/torch.h>\n"}, "25 s")

    def test_conditions_on_cuda(self):
        for condition in ("#ifdef VIXEN_CUDA", "# if defined(VIXEN_CUDA)", "#ifndef VIXEN_CUDA"):
            self.assert_fault({"kernels/x.cpp": condition + "\n#endif\n"}, "kernels/x.cpp:1:", "another file")

    def test_paths_folders_and_lengths(self):
        self.assert_fault({"model/x.cpp": '#include "encoder.hpp"\n'}, 'expected "folder/file"')
        self.assert_fault({"model/x.cpp": '#include "base/none.hpp"\n'}, 'expected "folder/file"')
        self.assert_fault({"utils/x.cpp": ""}, "no place in the layering")
        self.assert_fault({"model/x.cpp": "\n" * 601}, "601 lines, at most 600")


if __name__ == "__main__":
    unittest.main()
