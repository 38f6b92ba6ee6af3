#include "policy-engine/action/action.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <utility>

#include "base/limits.h"

namespace sallyport::action {
namespace {

using Fields = std::initializer_list<std::pair<std::string_view, std::string_view>>;

// The action; "-" for none; "!" where the request is refused.
std::string find(const Source& source, const Fields& fields, std::string_view query = {}, std::string_view body = {}) {
  request::HeaderList headers;
  for (const auto& [name, value] : fields) headers.add(name, value);
  const auto found = find_action(source, {headers, query, body});
  if (!found) return "!";
  return found->empty() ? "-" : *found;
}

const Source kAwsJson{Protocol::aws_json, {}, {}}, kAwsQuery{Protocol::aws_query, {}, {}},
    kGraphql{Protocol::graphql, {}, {}}, kJsonRpc{Protocol::json_rpc, {}, {}}, kSoap{Protocol::soap, {}, {}};

constexpr std::pair<std::string_view, std::string_view> kAmzJson{"Content-Type", "application/x-amz-json-1.0"},
    kJson{"content-type", "application/json; charset=utf-8"},
    kForm{"Content-Type", "application/x-www-form-urlencoded; charset=UTF-8"};

TEST(Action, AwsJsonIsTheTarget) {
  EXPECT_EQ(find(kAwsJson, {kAmzJson, {"X-Amz-Target", "DynamoDB_20120810.PutItem"}}), "DynamoDB_20120810.PutItem");
  EXPECT_EQ(find(kAwsJson, {kAmzJson, {"x-amz-target", "Logs_20140328.PutLogEvents"}}), "Logs_20140328.PutLogEvents");
  EXPECT_EQ(find(kAwsJson, {kAmzJson}), "-");
  EXPECT_EQ(find(kAwsJson, {}), "-");
}

TEST(Action, ATargetThatTwoServersReadDifferentlyIsRefused) {
  const std::pair<std::string_view, std::string_view> get{"X-Amz-Target", "D.GetItem"},
      put{"X-Amz-Target", "D.PutItem"};
  EXPECT_EQ(find(kAwsJson, {kAmzJson, get, put}), "!");
  EXPECT_EQ(find(kAwsJson, {kAmzJson, get, get}), "!");
  EXPECT_EQ(find(kAwsJson, {kAmzJson, get, {"X_Amz_Target", "D.PutItem"}}), "!");
  EXPECT_EQ(find(kAwsJson, {kAmzJson, {"x-amz_target", "D.PutItem"}}), "!");
  EXPECT_EQ(find(kAwsJson, {kAmzJson, {"X-Amz-Target", "D.GetItem, D.PutItem"}}), "!");
  EXPECT_EQ(find(kAwsJson, {kAmzJson, {"X-Amz-Target", ""}}), "!");
  EXPECT_EQ(find(kAwsJson, {kAmzJson, {"X-Amz-Target", "D.GetItem\xC3\xA9"}}), "!");
  EXPECT_EQ(find(kAwsJson, {kAmzJson, get}, "X-Amz-Target=D.PutItem"), "!") << "hoisted into a presigned URL";
  EXPECT_EQ(find(kAwsJson, {kAmzJson}, "x-amz-target=D.PutItem"), "!");
}

TEST(Action, ATargetCountsOnlyWithTheContentTypeOfItsProtocol) {
  const std::pair<std::string_view, std::string_view> get{"X-Amz-Target", "D.GetItem"};
  EXPECT_EQ(find(kAwsJson, {kForm, get}), "!") << "the service would read Action= from the body";
  EXPECT_EQ(find(kAwsJson, {get}), "!");
  EXPECT_EQ(find(kAwsJson, {{"Content-Type", "application/cbor"}, get}), "!");
  EXPECT_EQ(find(kAwsJson, {kAmzJson, kForm, get}), "!");
  EXPECT_EQ(find(kAwsJson, {kAmzJson, get}, "Action=DeleteTable"), "!");
}

TEST(Action, AwsQueryIsTheFieldAction) {
  EXPECT_EQ(find(kAwsQuery, {}, "Action=DescribeStacks&Version=2010-05-15"), "DescribeStacks");
  EXPECT_EQ(find(kAwsQuery, {kForm}, {}, "Version=1&Action=GetCallerIdentity"), "GetCallerIdentity");
  EXPECT_EQ(find(kAwsQuery, {kForm}, {}, "Name=Action%3DDelete&Action=Get%2eIt"), "Get.It");
  EXPECT_EQ(find(kAwsQuery, {kForm}, {}, "Version=1"), "-");
  EXPECT_EQ(find(kAwsQuery, {}), "-");
  EXPECT_EQ(find(kAwsQuery, {kForm}, {}, "ActionName=x&Actions=y&Action=Get"), "Get");
}

TEST(Action, AFieldThatTwoServersReadDifferentlyIsRefused) {
  for (const std::string_view body : {"Action=Get&Action=Delete",
                                      "Action=Get&Action=Get",
                                      "Action=Get&%41ction=Delete",
                                      "Action=Get&action=Delete",
                                      "Action=Get&Action%00=Delete",
                                      "Action=Get&Action[]=Delete",
                                      "Action=Get&Action%5B0%5D=Delete",
                                      "Action=Get&+Action=Delete",
                                      "Action=Get&%20Action%20=Delete",
                                      "x=1;Action=Delete&Action=Get",
                                      "Action=Get&%2541ction=Delete",
                                      "Action=Get%zz",
                                      "Action%=x&Action=Get",
                                      "Action=",
                                      "Action",
                                      "Action=Get+It",
                                      "Action=Get%0aDelete",
                                      "Action=Get;Action=Delete",
                                      "Action=Get&Act%C4%B1on=Delete",
                                      "Action=Get&ACT%C4%B0ON=Delete",
                                      "Action=Get&Action+x=Delete"}) {
    EXPECT_EQ(find(kAwsQuery, {kForm}, {}, body), "!") << body;
    EXPECT_EQ(find(kAwsQuery, {}, body), "!") << body;
  }
  EXPECT_EQ(find(kAwsQuery, {kForm}, "Action=Get", "Action=Delete"), "!");
  EXPECT_EQ(find(kAwsQuery, {kForm, {"X-Amz-Target", "D.Delete"}}, {}, "Action=Get"), "!");
}

TEST(Action, AFieldWithAnUnderscoreHasOtherSpellingsToo) {
  const Source form{Protocol::form, "task_kind", {}};
  EXPECT_EQ(find(form, {kForm}, {}, "task_kind=get&task=x&kind=y&task_kinds=z&task.kinds=z"), "get");
  for (const std::string_view other :
       {"task.kind", "task+kind", "task%20kind", "task[kind", "+task.kind", "task%2ekind", "task%252ekind",
        "ta%C5%BFk_kind", "tas%E2%84%AA_kind", "TASK.KIND", "task_kind[]"}) {
    EXPECT_EQ(find(form, {kForm}, {}, "task_kind=get&" + std::string(other) + "=drop"), "!") << other;
    EXPECT_EQ(find(form, {kForm}, {}, std::string(other) + "=drop"), "!") << other;
  }
}

TEST(Action, OneThatIsSaidBesideAnotherProtocolOfSmithyIsRefused) {
  const std::pair<std::string_view, std::string_view> smithy{"Smithy-Protocol", "rpc-v2-cbor"},
      get{"X-Amz-Target", "D.GetItem"};
  EXPECT_EQ(find(kAwsJson, {kAmzJson, get, smithy}), "!");
  EXPECT_EQ(find(kAwsQuery, {kForm, smithy}, {}, "Action=Get"), "!");
  EXPECT_EQ(find(kAwsJson, {{"Content-Type", "application/cbor"}, smithy}), "-") << "its operation is the path";
}

TEST(Action, ABodyThatIsNotWhatItsTypeSaysIsRefused) {
  EXPECT_EQ(find(kAwsQuery, {}, {}, "Action=Get"), "!");
  EXPECT_EQ(find(kAwsQuery, {{"Content-Type", "multipart/form-data; boundary=x"}}, {}, "Action=Get"), "!");
  EXPECT_EQ(find(kAwsQuery, {{"Content-Type", "application/x-www-form-urlencoded; charset=utf-16"}}, {}, "Action=Get"),
            "!");
  EXPECT_EQ(find(kAwsQuery, {{"Content-Type", "application/x-www-form-urlencoded; charset=ibm037"}}, {}, "Action=Get"),
            "!");
  EXPECT_EQ(find(kAwsQuery, {kForm, {"Content-Encoding", "gzip"}}, {}, "Action=Get"), "!");
  EXPECT_EQ(find(kAwsQuery, {kForm, {"Content-Encoding", "identity"}}, {}, "Action=Get"), "Get");
  EXPECT_EQ(find(kAwsQuery, {kForm, kForm}, {}, "Action=Get"), "!");
  EXPECT_EQ(find(kAwsQuery, {{"Content-Type", "application/x-www-form-urlencoded, text/plain"}}, {}, "Action=Get"),
            "!");
  EXPECT_EQ(find(kJsonRpc, {kForm}, {}, R"({"method":"a"})"), "!");
  EXPECT_EQ(
      find(kJsonRpc, {{"Content-Type", "application/json;charset=utf-8;charset=utf-16"}}, {}, R"({"method":"a"})"),
      "!");
  EXPECT_EQ(find(kJsonRpc, {{"Content-Type", "application/vnd.api+json"}}, {}, R"({"method":"a"})"), "a");
}

TEST(Action, JsonRpcIsTheMethod) {
  EXPECT_EQ(find(kJsonRpc, {kJson}, {}, R"({"jsonrpc":"2.0","method":"eth_call","params":[],"id":1})"), "eth_call");
  EXPECT_EQ(find(kJsonRpc, {kJson}, {}, R"([{"method":"a","id":1},{"id":2,"method":"a"}])"), "a");
  EXPECT_EQ(find(kJsonRpc, {kJson}, {}, R"({"params":{"method":"inner"}})"), "-");
  EXPECT_EQ(find(kJsonRpc, {}), "-");
}

TEST(Action, AJsonRpcCallThatCouldBeAnotherIsRefused) {
  for (const std::string_view body :
       {R"([{"method":"a"},{"method":"b"}])", R"([{"method":"a"},{}])",
        R"([{"method":"a"},{"method":"a","method":"b"}])", "[]", R"({"method":"a","method":"b"})",
        R"({"method":"a","Method":"b"})", R"({"method":1})", R"({"method":""})", R"({"method":"a b"})", R"([["a"]])",
        R"("a")", R"({"method":"a"} {"method":"b"})"}) {
    EXPECT_EQ(find(kJsonRpc, {kJson}, {}, body), "!") << body;
  }
}

TEST(Action, GraphqlIsTheNameOfTheOperation) {
  const auto post = [](std::string_view body) { return find(kGraphql, {kJson}, {}, body); };
  EXPECT_EQ(post(R"({"query":"query Items { items { id } }"})"), "Items");
  EXPECT_EQ(post(R"({"query":"{ items }"})"), "anonymous");
  EXPECT_EQ(post(R"({"query":"mutation { add }","operationName":null})"), "anonymous");
  EXPECT_EQ(post(R"({"query":"query A { a } query B { b }","operationName":"B"})"), "B");
  EXPECT_EQ(post(R"({"query":"fragment F on T { id } query A($x: In = {a: \"}\"}) @d(a: [1]) { ...F }"})"), "A");
  EXPECT_EQ(post(R"({"query":"# query X {\n query A { a(s: \"\"\"} \\\"\"\" \"\"\") }"})"), "A");
  EXPECT_EQ(post(R"({"operationName":"A","extensions":{"persistedQuery":{}}})"), "A");
  EXPECT_EQ(post(R"({"extensions":{"persistedQuery":{}}})"), "anonymous");
  EXPECT_EQ(find(kGraphql, {}, "query=query+A%7Ba%7D&operationName=A"), "A");
  EXPECT_EQ(find(kGraphql, {}, "query=%7Ba%7D"), "anonymous");
  EXPECT_EQ(find(kGraphql, {}), "-");
}

TEST(Action, AGraphqlRequestThatCouldBeAnotherIsRefused) {
  for (const std::string_view body :
       {R"([{"query":"{a}"}])", R"({"query":"query A{a} query B{b}"})", R"({"query":"query A{a}","operationName":"B"})",
        R"({"query":"query A{a} query A{b}","operationName":"A"})", R"({"query":"query A{a}","operationName":"a b"})",
        R"({"query":"query A{a}","operationName":""})", R"({"query":"query A{a}","operationName":["A"]})",
        R"({"query":"query A{a}","query":"mutation B{b}"})", R"({"query":"query A{a}","operationname":"A"})",
        R"({"query":"query A{a"})", R"({"query":"query A a}"})", R"({"query":"type A {a: Int}"})", R"({"query":""})",
        R"({"query":"query A{a(s:\"x)}"})", R"({"query":"query A{a(s:[1)]}"})", R"("query A{a}")"}) {
    EXPECT_EQ(find(kGraphql, {kJson}, {}, body), "!") << body;
  }
  EXPECT_EQ(find(kGraphql, {kJson}, "query=mutation+B%7Bb%7D", R"({"query":"query A{a}"})"), "!");
  EXPECT_EQ(find(kGraphql, {kJson}, "operationName=B", R"({"query":"query A{a}"})"), "!");
  EXPECT_EQ(find(kGraphql, {}, "query=%7Ba%7D&query=%7Bb%7D"), "!");
  EXPECT_EQ(find(kGraphql, {{"Content-Type", "application/graphql"}}, {}, "query A{a}"), "!");
}

TEST(Action, SoapIsTheSoapActionOfEitherVersion) {
  const std::pair<std::string_view, std::string_view> xml{"Content-Type", "text/xml; charset=utf-8"};
  EXPECT_EQ(find(kSoap, {xml, {"SOAPAction", "\"urn:get#Item\""}}), "urn:get#Item");
  EXPECT_EQ(find(kSoap, {xml, {"SoapAction", "urn:get"}}), "urn:get");
  EXPECT_EQ(find(kSoap, {xml, {"SOAPAction", "\"\""}}), "-");
  EXPECT_EQ(find(kSoap, {xml}), "-");
  EXPECT_EQ(find(kSoap, {{"Content-Type", "application/soap+xml; charset=utf-8; action=\"urn:get\""}}), "urn:get");
  EXPECT_EQ(find(kSoap, {{"Content-Type", "application/soap+xml; ACTION=urn-get"}}), "urn-get");
}

TEST(Action, ASoapActionThatTwoServersReadDifferentlyIsRefused) {
  const std::pair<std::string_view, std::string_view> get{"SOAPAction", "urn:get"};
  EXPECT_EQ(find(kSoap, {get, {"SOAPAction", "urn:put"}}), "!");
  EXPECT_EQ(find(kSoap, {get, {"Content-Type", "application/soap+xml; action=\"urn:put\""}}), "!");
  EXPECT_EQ(find(kSoap, {{"Content-Type", "application/soap+xml; action=\"urn:put\"; action=\"urn:get\""}}), "!");
  EXPECT_EQ(find(kSoap, {{"Content-Type", "text/xml; action=\"urn:put\""}}), "!");
  EXPECT_EQ(find(kSoap, {get, {"Soap_Action", "urn:put"}}), "urn:get") << "another field";
  EXPECT_EQ(find(kSoap, {{"SOAPAction", "\"urn:get\", \"urn:put\""}}), "!");
  EXPECT_EQ(find(kSoap, {get, {"Content-Type", "text/xml; ="}}), "!");
}

TEST(Action, APolicyCanNameAHeaderAFieldOrAPointer) {
  const Source header{Protocol::header, "X-Op", {}}, form{Protocol::form, "cmd", {}},
      json{Protocol::json, {}, *parse_pointer("/calls/0/a~1b~0")};
  EXPECT_EQ(find(header, {{"x-op", "list"}}), "list");
  EXPECT_EQ(find(header, {{"x_op", "list"}}), "!");
  EXPECT_EQ(find(form, {kForm}, {}, "cmd=list"), "list");
  EXPECT_EQ(find(json, {kJson}, {}, R"({"calls":[{"a/b~":"list"},{"a/b~":"drop"}]})"), "list");
  EXPECT_EQ(find(json, {kJson}, {}, R"({"calls":[]})"), "-");
  EXPECT_EQ(find(json, {kJson}, {}, R"({"calls":[{"a/b~":7}]})"), "!");
  EXPECT_EQ(find(json, {kJson}, {}, R"({"calls":[],"Calls":[{"a/b~":"drop"}]})"), "!");
  EXPECT_EQ(json.to_string(), "{json: /calls/0/a~1b~0}");
}

TEST(Action, PointersAreThoseOfRfc6901) {
  EXPECT_FALSE(parse_pointer(""));
  EXPECT_FALSE(parse_pointer("a"));
  EXPECT_FALSE(parse_pointer("/a~2"));
  EXPECT_FALSE(parse_pointer("/a~"));
  EXPECT_EQ(parse_pointer("/"), std::vector<std::string>{""});
  EXPECT_EQ(parse_pointer("/a//~01"), (std::vector<std::string>{"a", "", "~1"}));
}

TEST(Action, AnActionIsBounded) {
  EXPECT_TRUE(is_action(std::string(limits::kActionBytesMax, 'a')));
  EXPECT_FALSE(is_action(std::string(limits::kActionBytesMax + 1, 'a')));
  EXPECT_EQ(find(kJsonRpc, {kJson}, {}, "{\"method\":\"" + std::string(limits::kActionBytesMax + 1, 'a') + "\"}"), "!");
  EXPECT_EQ(
      find(kGraphql, {kJson}, {}, "{\"operationName\":\"" + std::string(limits::kActionBytesMax + 1, 'a') + "\"}"),
      "!");
  for (const std::string_view text : {"", " ", "a b", "a\"b", "a,b", "a;b", "a\\b", "a\x7f", "a\xC3\xA9"}) {
    EXPECT_FALSE(is_action(text)) << text;
  }
}

}  // namespace
}  // namespace sallyport::action
