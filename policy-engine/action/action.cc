#include "policy-engine/action/action.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/limits.h"
#include "policy-engine/action/form_fields.h"
#include "policy-engine/action/graphql_names.h"
#include "policy-engine/action/json_text.h"
#include "policy-engine/action/media_type.h"

namespace sallyport::action {
namespace {

constexpr std::string_view kTarget = "x-amz-target", kSoapAction = "soapaction", kAnonymous = "anonymous";

std::unexpected<Error> refuse(std::string text) {
  return fail(ErrorSource::downstream, ErrorKind::malformed, std::move(text));
}

Result<std::string> checked(std::string text, std::string_view where) {
  if (is_action(text)) return text;
  if (text.empty()) return refuse("the action in " + std::string(where) + " is empty");
  return refuse("the action in " + std::string(where) + " is longer than " + std::to_string(limits::kActionBytesMax) +
                " bytes, or has a byte that no action has");
}

// Servers in the manner of CGI take "X_Amz_Target" for "X-Amz-Target".
bool alike(std::string_view a, std::string_view b) {
  const auto folded = [](char c) { return c == '_' ? '-' : c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; };
  return std::ranges::equal(a, b, {}, folded, folded);
}

// The one field of that name; null where there is none.
Result<const request::Header*> only_field(const request::HeaderList& headers, std::string_view name) {
  const request::Header* found = nullptr;
  for (const request::Header& field : headers) {
    if (!alike(field.name, name)) continue;
    if (found != nullptr) return refuse("the request has the field " + std::string(name) + " more than once");
    if (!request::name_equals(field.name, name)) {
      return refuse("the request has the field " + std::string(name) + " in another spelling: '" +
                    std::string(field.name) + "'");
    }
    found = &field;
  }
  return found;
}

Result<std::string> from_header(const request::HeaderList& headers, std::string_view name) {
  const auto field = only_field(headers, name);
  if (!field) return std::unexpected(field.error());
  if (*field == nullptr) return std::string();
  return checked(std::string((*field)->value), name);
}

// The type of the body, or of one that should be there; of no type where the field is absent.
Result<MediaType> type_of(const request::HeaderList& headers) {
  const auto field = only_field(headers, "content-type");
  if (!field) return std::unexpected(field.error());
  if (*field == nullptr) return MediaType{};
  return parse_media_type((*field)->value);
}

bool is_json(std::string_view type) {
  return type == "application/json" || type == "application/json-rpc" || type == "application/jsonrequest" ||
         (type.starts_with("application/") && type.ends_with("+json"));
}

// Whatever else a body was made of, the server would undo it and see another text than was looked at here.
Result<MediaType> plain_body_type(const request::HeaderList& headers) {
  const auto encoding = only_field(headers, "content-encoding");
  if (!encoding) return std::unexpected(encoding.error());
  if (*encoding != nullptr && !request::name_equals((*encoding)->value, "identity")) {
    return refuse("the body is compressed, and the guard looks for the action in it: send it as it is");
  }
  auto type = type_of(headers);
  if (!type) return type;
  const std::string* charset = type->parameter("charset");
  if (charset != nullptr && !request::name_equals(*charset, "utf-8") && !request::name_equals(*charset, "utf8") &&
      !request::name_equals(*charset, "us-ascii")) {
    return refuse("the body has the charset '" + *charset + "', in which the guard does not look: send UTF-8");
  }
  return type;
}

std::unexpected<Error> wrong_type(const MediaType& type, std::string_view expected) {
  return refuse("the body is of the type '" + type.type + "' where the action is looked for in " +
                std::string(expected));
}

// Smithy's RPC v2 takes the operation from the path, and services speak it beside the older protocols: one that goes by
// this field first does not look at the action.
Result<void> refuse_smithy_protocol(const request::HeaderList& headers) {
  const auto protocol = only_field(headers, "smithy-protocol");
  if (!protocol) return std::unexpected(protocol.error());
  if (*protocol != nullptr) return refuse("the request has both an action and Smithy-Protocol, which names its own");
  return {};
}

// One endpoint of AWS may speak several protocols, and tells them apart by the Content-Type.
Result<std::string> from_aws_json(const Request& request) {
  auto action = from_header(request.headers, kTarget);
  if (!action) return action;
  FormField hoisted;
  if (auto found = find_field(request.query, "X-Amz-Target", hoisted); !found) return std::unexpected(found.error());
  if (hoisted.count > 0) return refuse("X-Amz-Target stands in the query, where some services read it");
  if (action->empty()) return action;
  if (auto smithy = refuse_smithy_protocol(request.headers); !smithy) return std::unexpected(smithy.error());
  FormField other;
  if (auto found = find_field(request.query, "Action", other); !found) return std::unexpected(found.error());
  if (other.count > 0) return refuse("the request has both X-Amz-Target and an Action in the query");
  const auto type = type_of(request.headers);
  if (!type) return std::unexpected(type.error());
  const bool fits = type->type.starts_with("application/x-amz-json-1.") || type->type == "application/json";
  if (!fits) return wrong_type(*type, "AWS JSON (application/x-amz-json-1.0 or -1.1)");
  return action;
}

Result<std::string> from_form(const Request& request, std::string_view name) {
  const auto target = only_field(request.headers, kTarget);
  if (!target) return std::unexpected(target.error());
  if (*target != nullptr) return refuse("the request has X-Amz-Target, where the action is looked for in a form");
  FormField field;
  if (auto found = find_field(request.query, name, field); !found) return std::unexpected(found.error());
  if (!request.body.empty()) {
    const auto type = plain_body_type(request.headers);
    if (!type) return std::unexpected(type.error());
    if (type->type != "application/x-www-form-urlencoded")
      return wrong_type(*type, "application/x-www-form-urlencoded");
    if (auto found = find_field(request.body, name, field); !found) return std::unexpected(found.error());
  }
  if (field.count == 0) return std::string();
  if (field.count > 1) return refuse("the request has the form field '" + std::string(name) + "' more than once");
  if (auto smithy = refuse_smithy_protocol(request.headers); !smithy) return std::unexpected(smithy.error());
  return checked(std::move(field.value), "the form field " + std::string(name));
}

Result<std::string> from_soap(const Request& request) {
  const auto field = only_field(request.headers, kSoapAction);
  if (!field) return std::unexpected(field.error());
  const auto type = type_of(request.headers);
  if (!type) return std::unexpected(type.error());
  const std::string* parameter = type->parameter("action");
  if (*field != nullptr && parameter != nullptr) {
    return refuse("the request has both SOAPAction and the parameter action of the Content-Type");
  }
  if (parameter != nullptr && type->type != "application/soap+xml") {
    return refuse("the Content-Type has the parameter action, but is not application/soap+xml");
  }
  if (*field == nullptr && parameter == nullptr) return std::string();
  std::string_view text = parameter != nullptr ? std::string_view(*parameter) : (*field)->value;
  if (*field != nullptr && text.size() >= 2 && text.front() == '"' && text.back() == '"') {
    text = text.substr(1, text.size() - 2);
  }
  if (text.empty()) return std::string();  // SOAP 1.1 section 6.1.1: the URL is the intent
  return checked(std::string(text), "SOAPAction");
}

Result<JsonValue> json_body(const Request& request) {
  const auto type = plain_body_type(request.headers);
  if (!type) return std::unexpected(type.error());
  if (!is_json(type->type)) return wrong_type(*type, "JSON (application/json)");
  return parse_json(request.body);
}

// A string member that may be null; nothing where it is absent or null.
Result<std::optional<std::string>> string_member(const JsonValue& object, std::string_view name) {
  const auto member = object.member(name);
  if (!member) return std::unexpected(member.error());
  const std::optional<JsonValue>& value = *member;
  if (!value || value->kind() == JsonValue::Kind::null) return std::optional<std::string>();
  if (value->kind() != JsonValue::Kind::string) return refuse("'" + std::string(name) + "' is no string");
  return std::optional(value->text());
}

Result<std::string> method_of(const JsonValue& call) {
  if (call.kind() != JsonValue::Kind::object) return refuse("the body is no JSON-RPC request: it is no object");
  const auto member = string_member(call, "method");
  if (!member) return std::unexpected(member.error());
  const std::optional<std::string>& method = *member;
  if (!method) return std::string();
  return checked(*method, "'method'");
}

Result<std::string> from_json_rpc(const Request& request) {
  if (request.body.empty()) return std::string();
  const auto body = json_body(request);
  if (!body) return std::unexpected(body.error());
  if (body->kind() != JsonValue::Kind::array) return method_of(*body);
  const auto first = body->element(0);
  if (!first) return refuse("the batch of JSON-RPC is empty");
  auto method = method_of(*first);
  auto same = [&](const JsonValue& call) {
    const auto other = method_of(call);
    return other && *other == *method;
  };
  if (method && !body->all_elements(same)) {
    return refuse("the batch of JSON-RPC has calls of different methods: send them one by one");
  }
  return method;
}

// What the document and the name of the operation say together.
Result<std::string> graphql_action(const std::optional<std::string>& document, const std::optional<std::string>& name) {
  if (name && !is_graphql_name(*name)) return refuse("operationName is no name of GraphQL");
  if (name && name->size() > limits::kActionBytesMax) return refuse("operationName is too long");
  if (!document) return name.value_or(std::string(kAnonymous));  // a persisted query
  const auto names = operation_names(*document);
  if (!names) return std::unexpected(names.error());
  if (name) {
    if (std::ranges::count(*names, *name) == 1) return *name;
    return refuse("the GraphQL document does not define the operation '" + *name + "' exactly once");
  }
  if (names->size() != 1) {
    return refuse("the GraphQL document defines " + std::to_string(names->size()) +
                  " operations, and operationName does not say which is meant");
  }
  return checked(std::string(names->front().empty() ? kAnonymous : names->front()), "the GraphQL document");
}

Result<std::optional<std::string>> query_field(const Request& request, std::string_view name) {
  FormField field;
  if (auto found = find_field(request.query, name, field); !found) return std::unexpected(found.error());
  if (field.count > 1) return refuse("the query has '" + std::string(name) + "' more than once");
  return field.count == 0 ? std::optional<std::string>() : std::optional(field.value);
}

Result<std::string> from_graphql(const Request& request) {
  auto document = query_field(request, "query");
  if (!document) return std::unexpected(document.error());
  auto name = query_field(request, "operationName");
  if (!name) return std::unexpected(name.error());
  if (request.body.empty()) {
    const auto extensions = query_field(request, "extensions");
    if (!extensions) return std::unexpected(extensions.error());
    if (!*document && !*name && !*extensions) return std::string();
    return graphql_action(*document, *name);
  }
  if (*document || *name)
    return refuse("the request has parts of a GraphQL operation in its query and a body beside it");
  const auto body = json_body(request);
  if (!body) return std::unexpected(body.error());
  if (body->kind() == JsonValue::Kind::array)
    return refuse("the body is a batch of GraphQL: send operations one by one");
  if (body->kind() != JsonValue::Kind::object) return refuse("the body is no GraphQL request: it is no object");
  document = string_member(*body, "query");
  if (!document) return std::unexpected(document.error());
  name = string_member(*body, "operationName");
  if (!name) return std::unexpected(name.error());
  return graphql_action(*document, *name);
}

std::optional<std::size_t> index_of(std::string_view token) {
  std::size_t index = 0;
  const auto [end, wrong] = std::from_chars(token.data(), token.data() + token.size(), index);
  const bool whole = wrong == std::errc() && end == token.data() + token.size();
  if (!whole || (token.front() == '0' && token.size() > 1)) return std::nullopt;
  return index;
}

Result<std::string> from_pointer(const Request& request, const std::vector<std::string>& pointer) {
  if (request.body.empty()) return std::string();
  const auto body = json_body(request);
  if (!body) return std::unexpected(body.error());
  std::optional<JsonValue> value = *body;
  for (const std::string& token : pointer) {
    if (value->kind() == JsonValue::Kind::array) {
      const auto index = index_of(token);
      value = index ? value->element(*index) : std::nullopt;
    } else {
      auto member = value->member(token);
      if (!member) return std::unexpected(member.error());
      value = *member;
    }
    if (!value) return std::string();
  }
  if (value->kind() != JsonValue::Kind::string)
    return refuse("the JSON of the body has no string where the action stands");
  return checked(value->text(), "the JSON of the body");
}

}  // namespace

bool Source::in_body() const {
  switch (protocol) {
    case Protocol::none:
    case Protocol::aws_json:
    case Protocol::soap:
    case Protocol::header:
      return false;
    case Protocol::aws_query:
    case Protocol::graphql:
    case Protocol::json_rpc:
    case Protocol::form:
    case Protocol::json:
      return true;
  }
  return true;
}

std::string Source::to_string() const {
  switch (protocol) {
    case Protocol::none:
      return "none";
    case Protocol::aws_json:
      return "aws-json";
    case Protocol::aws_query:
      return "aws-query";
    case Protocol::graphql:
      return "graphql";
    case Protocol::json_rpc:
      return "json-rpc";
    case Protocol::soap:
      return "soap";
    case Protocol::header:
      return "{header: " + name + "}";
    case Protocol::form:
      return "{form: " + name + "}";
    case Protocol::json:
      break;
  }
  std::string out = "{json: ";
  for (const std::string& token : pointer) {
    out += '/';
    for (const char c : token) out += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  }
  return out + "}";
}

Result<std::vector<std::string>> parse_pointer(std::string_view text) {
  const auto wrong = [] {
    return fail(ErrorSource::policy, ErrorKind::invalid, "it begins with '/', and '~' is only in '~0' and '~1'");
  };
  if (text.empty() || text.front() != '/') return wrong();
  std::vector<std::string> tokens;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '/') {
      tokens.emplace_back();
    } else if (text[i] != '~') {
      tokens.back() += text[i];
    } else if (i + 1 < text.size() && (text[i + 1] == '0' || text[i + 1] == '1')) {
      tokens.back() += text[++i] == '0' ? '~' : '/';
    } else {
      return wrong();
    }
  }
  return tokens;
}

bool is_action(std::string_view text) {
  const auto good = [](char c) {
    return c > ' ' && c <= '~' && std::string_view("\"'\\,;").find(c) == std::string_view::npos;
  };
  return !text.empty() && text.size() <= limits::kActionBytesMax && std::ranges::all_of(text, good);
}

Result<std::string> find_action(const Source& source, const Request& request) {
  switch (source.protocol) {
    case Protocol::none:
      return std::string();
    case Protocol::aws_json:
      return from_aws_json(request);
    case Protocol::aws_query:
      return from_form(request, "Action");
    case Protocol::graphql:
      return from_graphql(request);
    case Protocol::json_rpc:
      return from_json_rpc(request);
    case Protocol::soap:
      return from_soap(request);
    case Protocol::header:
      return from_header(request.headers, source.name);
    case Protocol::form:
      return from_form(request, source.name);
    case Protocol::json:
      return from_pointer(request, source.pointer);
  }
  return refuse("the policy looks for actions in a way that is not known");
}

}  // namespace sallyport::action
