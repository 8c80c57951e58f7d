"""The check of citations finds each kind of fault in a small made-up tree, and nothing in a tree without any."""

import unittest

from made_up_tree import TreeCheck

GOOD = {
    "docs/sums.md": "# Sums\n\n## 1. Adding\n\n1. one\n2. two\n\n## 2. The field's mean\n\nas in section 1\n",
    "README.md": "[sums](docs/sums.md), [mean](docs/sums.md#2-the-fields-mean), [web](https://example.org/none.md)\n",
    "src/add.cpp": "// docs/sums.md section 1, steps 1 to 2, docs/sums.md section 2; READMEs of others: models/card.md\n",
}


class DocsTest(TreeCheck):
    tool = "check_docs.py"
    good = GOOD

    def test_a_good_tree_has_no_fault(self):
        code, text = self.run_on({})
        self.assertEqual(code, 0, text)
        self.assertEqual(text, "2 citations, 2 links, 0 faults\n")

    def test_a_page_that_is_not_there(self):
        self.assert_fault({"tests/x.py": "# docs/products.md\n"}, "tests/x.py:1", "docs/products.md is not there")

    def test_a_section_that_is_not_there(self):
        self.assert_fault({"src/add.cpp": "//\n// docs/sums.md section 3\n"}, "src/add.cpp:2", "no section 3")

    def test_a_step_that_is_not_there(self):
        self.assert_fault({"src/add.cpp": "// docs/sums.md section 1, step 3\n"}, "no step 3")
        self.assert_fault({"src/add.cpp": "// docs/sums.md section 1, steps 1 to 4\n"}, "no step 4")

    def test_a_page_without_its_folder(self):
        self.assert_fault({"src/add.cpp": "// sums.md section 1\n"}, "without its folder")

    def test_a_link_into_nothing(self):
        self.assert_fault({"README.md": "[sums](docs/sum.md)\n"}, "README.md:1: docs/sum.md is not there")
        self.assert_fault({"docs/more.md": "[mean](sums.md#the-mean)\n"}, "no heading #the-mean")


if __name__ == "__main__":
    unittest.main()
