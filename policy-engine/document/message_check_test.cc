#include "policy-engine/document/message_check.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/unknown_field_set.h>

#include <functional>
#include <tuple>
#include <utility>

#include "base/limits.h"
#include "policy-engine/api/annotations.pb.h"
#include "policy-engine/api/egress_policy.pb.h"
#include "policy-engine/credentials/binding.h"
#include "policy-engine/document/message_reader.h"
#include "policy-engine/document/test_support.h"
#include "policy-engine/document/yaml_tree.h"

namespace sallyport::document {
namespace {

namespace api = sallyport::policy::v1alpha1;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using testing::HasSubstr;

constexpr std::string_view kPolicy = R"(apiVersion: sallyport.dev/v1alpha1
kind: EgressPolicy
metadata: {name: checkout}
spec:
  mode: audit
  endpoints:
  - name: bank
    host: bank.example
    rules:
    - {methods: [POST], path: {prefix: /charges}, actions: [Charge]}
    operations: {header: X-Action}
    credential: bank
    caBundle: {file: /etc/ssl/bank.pem}
    clientCertificate: {certificate: {file: /run/c.pem}, key: {file: /run/c.key}}
    upstreamProxy: {url: 'http://proxy.example:3128', credentials: {env: PROXY}}
    websocket: {allow: false}
  - {name: stock, host: stock.example, rules: [{methods: [any], path: {exact: /}}], function: stock}
  credentials:
  - {name: bank, secret: {store: bank-key}, inject: {header: Authorization}, placeholder: {env: BANK}}
  flow: {graph: checkout.graph.yaml, mode: audit}
  inbound: {probes: [{path: /ready, methods: [GET]}], callers: [cart]}
  tags: {application: shop}
  limits: [{name: charges, endpoint: bank, rate: 20/s}]
)";

api::EgressPolicy message_of(std::string_view yaml = kPolicy) {
  Diagnostics diagnostics("p.yaml");
  const auto tree = parse_yaml(yaml, diagnostics);
  api::EgressPolicy policy;
  Places places;
  read_message(*tree, policy, places, diagnostics);
  EXPECT_FALSE(diagnostics.has_errors());
  return policy;
}

Result<credentials::Secret> read_any(const SecretRef&) { return credentials::Secret::copy_of("user:secret"); }

Application shop(std::initializer_list<std::string_view> keys) {
  Application made{"shop", {}};
  for (const std::string_view key : keys) made.keys.push_back(*credentials::Secret::copy_of(key));
  return made;
}
const std::string kKey(32, 'k'), kOtherKey(32, 'o');

LoadResult load(const api::EgressPolicy& message, const Application* application) {
  return load_policy(message, "checkout", read_any, {}, nullptr, application);
}
LoadResult load(const api::EgressPolicy& message) {
  const Application application = shop({kKey});
  return load(message, &application);
}

// Every message in it, and itself.
void visit(Message& message, const std::function<void(Message&)>& call) {
  call(message);
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      visit(*message.GetReflection()->MutableMessage(&message, field), call);
      continue;
    }
    for (int i = 0; i < message.GetReflection()->FieldSize(message, field); ++i) {
      visit(*message.GetReflection()->MutableRepeatedMessage(&message, field, i), call);
    }
  }
}

TEST(PolicyMessage, DecidesAsTheFileDoes) {
  const Application application = shop({kKey});
  const LoadResult received = load(message_of());
  const LoadResult read = load_policy(kPolicy, "p.yaml", read_any, {}, nullptr, &application);
  ASSERT_TRUE(received.snapshot) << diagnostics_text(received);
  EXPECT_EQ(received.snapshot->summary(), read.snapshot->summary());
  EXPECT_EQ(received.snapshot->mode(), Mode::audit);
  for (const auto& [method, path, action] :
       {std::tuple("POST", "/charges/1", "Charge"), std::tuple("POST", "/charges/1", "Refund"),
        std::tuple("GET", "/charges/1", "Charge"), std::tuple("POST", "/", "Charge")}) {
    const Destination bank{request::Scheme::https, "bank.example", 443};
    EXPECT_EQ(received.snapshot->decide_request(bank, method, path, action).reason,
              read.snapshot->decide_request(bank, method, path, action).reason);
  }
  EXPECT_EQ(received.snapshot->bindings().all()[0]->secret.view(), "user:secret");
  EXPECT_FALSE(received.snapshot->bindings().all()[0]->placeholder.empty());
}

TEST(PolicyMessage, FieldsThatAreNotKnownAreRefusedWhereverTheyStand) {
  api::EgressPolicy counted = message_of();
  int messages = 0;
  visit(counted, [&](Message&) { ++messages; });
  EXPECT_GT(messages, 25);
  for (int which = 0; which < messages; ++which) {
    api::EgressPolicy policy = message_of();
    int at = 0;
    std::string type;
    visit(policy, [&](Message& one) {
      if (at++ != which) return;
      type = one.GetDescriptor()->name();
      one.GetReflection()->MutableUnknownFields(&one)->AddVarint(9'999, 1);
    });
    const LoadResult result = load(policy);
    EXPECT_FALSE(result.snapshot) << type;
    EXPECT_THAT(diagnostics_text(result), HasSubstr("has fields that this version does not know")) << type;
    EXPECT_THAT(diagnostics_text(result), HasSubstr("update sallyport")) << type;
  }
}

TEST(PolicyMessage, WordsThatAreNotKnownAreRefused) {
  api::EgressPolicy policy = message_of();
  policy.mutable_spec()->set_mode(static_cast<api::Mode>(17));
  EXPECT_EQ(diagnostics_text(load(policy)),
            "checkout: error: spec: 'mode' has a value that this version does not know (hint: update sallyport: a "
            "newer version wrote this)\n");
  policy = message_of();
  policy.mutable_spec()->mutable_endpoints(0)->set_inspection(static_cast<api::Inspection>(9));
  EXPECT_THAT(diagnostics_text(load(policy)), HasSubstr("spec.endpoints[0]: 'inspection' has a value"));
}

TEST(PolicyMessage, WhatTheSchemaRequiresMustBeThere) {
  api::EgressPolicy counted = message_of();
  int required = 0;
  const auto each_required = [](Message& one, const std::function<void(const FieldDescriptor&)>& call) {
    for (int i = 0; i < one.GetDescriptor()->field_count(); ++i) {
      const FieldDescriptor& field = *one.GetDescriptor()->field(i);
      const auto* choice = field.real_containing_oneof();
      const bool chosen = choice != nullptr && choice->options().GetExtension(api::one_required) &&
                          one.GetReflection()->HasField(one, &field);
      if (field.options().GetExtension(api::required) || chosen) call(field);
    }
  };
  visit(counted, [&](Message& one) { each_required(one, [&](const FieldDescriptor&) { ++required; }); });
  EXPECT_GT(required, 30);
  for (int which = 0; which < required; ++which) {
    api::EgressPolicy policy = message_of();
    int at = 0;
    std::string name;
    std::vector<std::pair<Message*, const FieldDescriptor*>> found;
    visit(policy, [&](Message& one) {
      each_required(one, [&](const FieldDescriptor& field) {
        if (at++ == which) found.emplace_back(&one, &field);
      });
    });
    ASSERT_EQ(found.size(), 1U);
    found[0].first->GetReflection()->ClearField(found[0].first, found[0].second);
    EXPECT_FALSE(load(policy).snapshot) << found[0].second->full_name();
  }
}

TEST(PolicyMessage, ControlCharactersAreRefused) {
  api::EgressPolicy policy = message_of();
  policy.mutable_spec()->mutable_credentials(0)->mutable_inject()->set_format("a\r\nHost: {}");
  EXPECT_THAT(diagnostics_text(load(policy)), HasSubstr("a control character stands in 'format'"));
}

TEST(PolicyMessage, OneThatIsTooLargeIsRefused) {
  api::EgressPolicy policy = message_of();
  policy.mutable_spec()->set_function(std::string(limits::kPolicyBytesMax, 'a'));
  EXPECT_THAT(diagnostics_text(load(policy)), HasSubstr("the policy has more than"));
}

TEST(Membership, ASecretOfTheControllersNeedsOne) {
  std::string asked;
  const SecretReader reader = [&](const SecretRef& reference) {
    if (!reference.store.empty()) asked = reference.store;
    return read_any(reference);
  };
  const Application application = shop({kKey});
  EXPECT_TRUE(load_policy(kPolicy, "p.yaml", reader, {}, nullptr, &application).snapshot);
  EXPECT_EQ(asked, "bank-key");
  asked.clear();
  const LoadResult alone = load_policy(kPolicy, "p.yaml", reader);
  EXPECT_FALSE(alone.snapshot);
  EXPECT_EQ(asked, "");
  EXPECT_THAT(diagnostics_text(alone),
              HasSubstr("p.yaml:19:34: error: the secret 'bank-key' is kept by a controller, and there is none (hint: "
                        "run with --controller, or name a file or a variable: {file: PATH} or {env: NAME})"));
  // One that is only checked may be meant for a controller.
  EXPECT_TRUE(load_policy(kPolicy, "p.yaml", nullptr).snapshot);
}

TEST(Membership, TagsHaveTheControllersKeysAndTheFirstMakesThem) {
  const Application two = shop({kKey, kOtherKey});
  const LoadResult result = load(message_of(), &two);
  ASSERT_TRUE(result.snapshot) << diagnostics_text(result);
  const Tags& tags = *result.snapshot->tags();
  ASSERT_EQ(tags.requests.size(), 2U);
  ASSERT_EQ(tags.answers.size(), 2U);
  EXPECT_EQ(tags.requests[0].id(), tag::Key::create("shop", kKey)->id());
  EXPECT_EQ(tags.requests[1].id(), tag::Key::create("shop", kOtherKey)->id());
  EXPECT_EQ(tags.answers[1].id(), tag::Key::create("shop", kOtherKey)->for_answers()->id());
}

TEST(Membership, APolicyWithoutTagsIsTaggedWhereThereAreKeys) {
  api::EgressPolicy policy = message_of();
  policy.mutable_spec()->clear_tags();
  const LoadResult tagged = load(policy);
  ASSERT_TRUE(tagged.snapshot) << diagnostics_text(tagged);
  ASSERT_NE(tagged.snapshot->tags(), nullptr);
  EXPECT_EQ(tagged.snapshot->tags()->application, "shop");
  const Application keyless = shop({});
  EXPECT_THAT(diagnostics_text(load(policy, &keyless)), HasSubstr("callers are known by their tags"));
  policy.mutable_spec()->clear_inbound();
  policy.mutable_spec()->mutable_endpoints(1)->clear_function();
  const LoadResult untagged = load(policy, &keyless);
  ASSERT_TRUE(untagged.snapshot);
  EXPECT_EQ(untagged.snapshot->tags(), nullptr);
}

TEST(Membership, APolicyOfAnotherApplicationIsRefused) {
  Application other = shop({kKey});
  other.name = "bank";
  const LoadResult result = load(message_of(), &other);
  EXPECT_FALSE(result.snapshot);
  EXPECT_EQ(diagnostics_text(result),
            "checkout: error: the policy is for the application 'shop' (hint: the guard is a member of 'bank')\n");
}

TEST(Membership, WithoutAnyKeyThereAreNoTags) {
  const Application keyless = shop({});
  EXPECT_THAT(diagnostics_text(load(message_of(), &keyless)), HasSubstr("a tags rule has no 'key'"));
  EXPECT_FALSE(load_policy(kPolicy, "p.yaml", read_any).snapshot);
  const LoadResult checked = load_policy(kPolicy, "p.yaml", nullptr);
  EXPECT_TRUE(checked.snapshot);
  EXPECT_THAT(diagnostics_text(checked), HasSubstr("p.yaml:22:9: warning: a tags rule has no 'key'"));
}

TEST(Membership, AKeyThatIsNoneIsAnError) {
  const Application broken = shop({kKey, "short"});
  EXPECT_THAT(diagnostics_text(load(message_of(), &broken)),
              HasSubstr("error: a key of the application 'shop' can't be used"));
}

}  // namespace
}  // namespace sallyport::document
