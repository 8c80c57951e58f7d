// resolve_template: defaults of encoders and decoders, strings found and not found, the warning about pictures first.
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <fstream>
#include <sstream>

#include "base/check.hpp"
#include "base/log.hpp"
#include "data/sequence_template.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/toy_dataset.hpp"

namespace vixen {
namespace {

using Tokens = std::vector<int32_t>;

/// What the process's logger prints, for as long as this lives.
class LogCapture {
 public:
  LogCapture() : before_(spdlog::default_logger()) {
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(out_);
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", std::move(sink)));
  }
  ~LogCapture() { spdlog::set_default_logger(before_); }
  std::string text() const { return out_.str(); }

 private:
  std::ostringstream out_;
  std::shared_ptr<spdlog::logger> before_;
};

struct Templates : testing::Test {
  Templates() : with_prompts(open({.decoder = true, .bos_token = 2}, "with.h5")) {}

  std::unique_ptr<Dataset> open(const test::ToyOptions& options, const std::string& name) const {
    return std::make_unique<Dataset>(test::write_toy_dataset(dir.path() / name, options));
  }
  Tokens tokens_of(const std::string& text) const {
    const Prompts& prompts = with_prompts->prompts();
    for (int64_t i = 0; i < prompts.size(); ++i)
      if (prompts.text(i) == text) return {prompts.tokens[i].begin(), prompts.tokens[i].end()};
    return {};
  }
  std::string error_of(const TemplateConfig& config, bool images, const Dataset& dataset) const {
    return test::error_of([&] { resolve_template(config, kDecoderPrompt, images, dataset); });
  }

  test::TempDir dir;
  std::unique_ptr<Dataset> with_prompts;
};

TEST_F(Templates, DecodersHaveThePromptByDefault) {
  const LogCapture log;
  const auto found = resolve_template({}, kDecoderPrompt, /*images=*/true, *with_prompts);
  EXPECT_FALSE(found.images_first);
  EXPECT_TRUE(found.decoder);
  EXPECT_EQ(found.text_prefix, tokens_of("This product text"));
  EXPECT_EQ(found.image_prefix, tokens_of("and its image"));
  EXPECT_EQ(found.closing, Tokens{0});
  EXPECT_EQ(found.text_prefix.size(), 3u);
  EXPECT_EQ(found.prompt_tokens(), 7);
  EXPECT_EQ(found.bos, 2);
  EXPECT_EQ(found.text_slots, 12);
  EXPECT_EQ(log.text(), "");
}

TEST_F(Templates, EncodersHaveNone) {
  const auto found = resolve_template({}, kEncoderPrompt, /*images=*/true, *with_prompts);
  EXPECT_TRUE(found.images_first);
  EXPECT_FALSE(found.decoder);
  EXPECT_EQ(found.prompt_tokens(), 0);
  EXPECT_EQ(found.bos, -1);  // an encoder's first token stays with its text
  TemplateConfig config;
  config.use = UseTemplate::kYes;
  EXPECT_EQ(resolve_template(config, kEncoderPrompt, true, *with_prompts).prompt_tokens(), 7);
}

TEST_F(Templates, EveryChoiceCanBeMade) {
  TemplateConfig config;
  config.use = UseTemplate::kNo;
  EXPECT_EQ(resolve_template(config, kDecoderPrompt, true, *with_prompts).prompt_tokens(), 0);
  config = {};
  config.closing = "";
  EXPECT_EQ(resolve_template(config, kDecoderPrompt, true, *with_prompts).prompt_tokens(), 6);
  config.order = PieceOrder::kTextFirst;
  EXPECT_FALSE(resolve_template(config, kEncoderPrompt, true, *with_prompts).images_first);
  config.text_prefix = "and its image";  // any string of the data set may stand anywhere
  EXPECT_EQ(resolve_template(config, kDecoderPrompt, true, *with_prompts).text_prefix, tokens_of("and its image"));
}

TEST_F(Templates, AModelWithoutPicturesNeedsNoImagePrefix) {
  TemplateConfig config;
  config.image_prefix = "nowhere";
  const auto found = resolve_template(config, kDecoderPrompt, /*images=*/false, *with_prompts);
  EXPECT_TRUE(found.image_prefix.empty());
  EXPECT_EQ(found.prompt_tokens(), 4);
}

TEST_F(Templates, EmptyStringsNeedNoPrompts) {
  const auto plain = open({.decoder = true, .prompts = false}, "plain.h5");
  TemplateConfig config;
  config.text_prefix = config.image_prefix = config.closing = "";
  EXPECT_EQ(resolve_template(config, kDecoderPrompt, true, *plain).prompt_tokens(), 0);
}

TEST_F(Templates, MissingStringsAreNamed) {
  TemplateConfig config;
  config.text_prefix = "What's\tthis";
  config.closing = "<eos>";
  const auto path = with_prompts->path().string();
  EXPECT_EQ(error_of(config, true, *with_prompts),
            path +
                ": template.text_prefix = 'What'\\''s\\x09this' is not among the prompts that the data set holds "
                "tokenised ('This product text', 'and its image', '<|endoftext|>'): run tools/add_prompts.py " +
                path + " --model MODEL 'What'\\''s\\x09this' '<eos>'");
}

TEST_F(Templates, ADecoderNeedsADataSetWithPrompts) {
  const auto plain = open({.decoder = true, .prompts = false}, "plain.h5");
  const auto path = plain->path().string();
  EXPECT_EQ(error_of({}, false, *plain),
            path +
                ": template.text_prefix = 'This product text' is not among the prompts that the data set holds "
                "tokenised (it has none): run tools/add_prompts.py " +
                path + " --model MODEL 'This product text' '<|endoftext|>'");
}

TEST_F(Templates, OthersMayHavePicturesInFront) {
  TemplateConfig config;
  config.order = PieceOrder::kImagesFirst;
  const LogCapture log;
  EXPECT_TRUE(resolve_template(config, kDecoderPrompt, /*images=*/false, *with_prompts).images_first);
  EXPECT_TRUE(resolve_template(config, kEncoderPrompt, true, *with_prompts).images_first);
  EXPECT_EQ(log.text(), "");
}

TEST_F(Templates, PicturesInFrontOfADecoderAreWarnedOf) {
  TemplateConfig config;
  config.order = PieceOrder::kImagesFirst;
  {
    const LogCapture log;
    EXPECT_TRUE(resolve_template(config, kDecoderPrompt, true, *with_prompts).images_first);
    EXPECT_NE(log.text().find("warning"), std::string::npos) << log.text();
    EXPECT_NE(log.text().find("attention sink"), std::string::npos) << log.text();
  }
  const LogCapture log;
  resolve_template(config, kDecoderPrompt, true, *with_prompts);  // once is enough
  EXPECT_EQ(log.text(), "");
}

}  // namespace
}  // namespace vixen
