#include "policy-engine/flow/pattern.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/limits.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/did_you_mean.h"
#include "policy-engine/document/names.h"
#include "policy-engine/flow/pattern_match.h"
#include "policy-engine/request/host.h"
#include "policy-engine/request/target.h"

namespace sallyport::flow {

namespace {

using document::quoted;

constexpr std::string_view kPlain = "http://";

struct ClassName {
  std::string_view word;
  Class meaning;
};
constexpr std::array<ClassName, 6> kClasses = {{{"int", Class::integer},
                                                {"uuid", Class::uuid},
                                                {"hex", Class::hex},
                                                {"date", Class::date},
                                                {"word", Class::word},
                                                {"any", Class::any}}};

std::optional<Class> class_of(std::string_view word) {
  for (const ClassName& name : kClasses) {
    if (name.word == word) return name.meaning;
  }
  return std::nullopt;
}

std::string_view word_of(Class meaning) {
  for (const ClassName& name : kClasses) {
    if (name.meaning == meaning) return name.word;
  }
  return {};
}

std::string text_of(const std::vector<Piece>& pieces) {
  std::string out;
  for (const Piece& piece : pieces) {
    if (!piece.literal.empty()) {
      out += piece.literal;
    } else {
      out.append(1, '{').append(word_of(piece.placeholder)).append(1, '}');
    }
  }
  return out;
}

// The pieces with a letter in the place of each placeholder, which can stand wherever a placeholder can.
std::string sample_of(const std::vector<Piece>& pieces) {
  std::string out;
  for (const Piece& piece : pieces) out += piece.literal.empty() ? std::string("x") : piece.literal;
  return out;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<Pattern> parse(std::string_view action) {
    if (text_.size() > limits::kFlowPatternBytesMax) {
      return refuse(0, "it is longer than " + std::to_string(limits::kFlowPatternBytesMax) + " bytes");
    }
    out_.action = action;
    if (Result<void> good = parse_method(); !good) return std::unexpected(std::move(good.error()));
    if (Result<void> good = parse_host(); !good) return std::unexpected(std::move(good.error()));
    if (Result<void> good = parse_path(); !good) return std::unexpected(std::move(good.error()));
    if (Result<void> good = parse_query(); !good) return std::unexpected(std::move(good.error()));
    return std::move(out_);
  }

 private:
  static std::unexpected<Error> refuse(std::size_t at, const std::string& text) {
    return fail(ErrorSource::policy, ErrorKind::invalid, "at byte " + std::to_string(at + 1) + ": " + text);
  }

  Result<void> parse_method() {
    const std::size_t space = text_.find(' ');
    const std::string_view method = text_.substr(0, space);
    if (space == std::string_view::npos || method.empty()) {
      return refuse(0, "a pattern is a method, a space, a host and a path: write 'GET api.example.com/orders/{int}'");
    }
    if (!document::is_policy_method(method)) {
      return refuse(0, quoted(method) + " is no method: write one method in upper case, as GET or PROPFIND");
    }
    out_.method = method;
    at_ = space + 1;
    return {};
  }

  Result<void> parse_host() {
    const std::size_t begin = at_;
    if (rest().starts_with("https://"))
      return refuse(at_, "https is meant where no scheme stands: leave 'https://' out");
    out_.plain_http = rest().starts_with(kPlain);
    if (out_.plain_http) at_ += kPlain.size();
    const std::size_t end = std::min(text_.find_first_of("/?", at_), text_.size());
    if (end == text_.size() || text_[end] == '?') {
      return refuse(end, "there is no path: write '/' behind the host");
    }
    if (Result<void> good = parse_pieces(end, Part::host, out_.host); !good) return good;
    if (Result<void> good = check_labels(begin); !good) return good;
    return check_authority(begin);
  }

  Result<void> check_labels(std::size_t begin) const {
    bool taken = false;
    for (const Piece& piece : out_.host) {
      if (piece.literal.empty()) {
        if (taken)
          return refuse(begin, "a label of a host has at most one placeholder: write {any} for the whole of it");
        taken = true;
      } else if (piece.literal.find('.') != std::string::npos) {
        taken = false;
      }
    }
    return {};
  }

  Result<void> check_authority(std::size_t begin) const {
    const std::string sample = sample_of(out_.host);
    const Result<request::Authority> authority = request::parse_authority(sample);
    if (!authority) return refuse(begin, authority.error().text);
    const int standard = out_.plain_http ? 80 : 443;
    if (authority->port == standard) {
      return refuse(begin, std::to_string(standard) + " is the port that is meant where none stands: leave it out");
    }
    std::string canonical = authority->host.name;
    if (sample.starts_with('[')) canonical = "[" + canonical + "]";
    if (authority->port) canonical += ":" + std::to_string(*authority->port);
    if (canonical == sample) return {};
    return refuse(begin, "no request has this host in its one spelling: write it as in " + quoted(canonical));
  }

  Result<void> parse_path() {
    const std::size_t begin = at_;
    const std::size_t end = std::min(text_.find('?', at_), text_.size());
    const bool open = text_[end - 1] == '*';
    if (Result<void> good = parse_pieces(open ? end - 1 : end, Part::path, out_.path); !good) return good;
    out_.open_path = open;
    at_ = end;
    const std::string sample = sample_of(out_.path) + (open ? "x" : "");
    const auto target = request::canonical_target(sample, {.encoded_slashes = true});
    if (!target) return refuse(begin, "no request has this path: " + target.error().text);
    if (target->text == sample) return {};
    return refuse(begin, "no request has this path in its one spelling: write it as in " + quoted(target->text));
  }

  Result<void> parse_query() {
    if (at_ == text_.size()) return {};
    const std::size_t begin = ++at_;
    if (rest().empty()) return refuse(begin - 1, "the query is empty: leave the '?' out, or write '?*' for any query");
    if (rest() == "*") {
      out_.any_query = true;
      return {};
    }
    if (Result<void> good = check_pairs(); !good) return good;
    if (Result<void> good = parse_pieces(text_.size(), Part::query, out_.query); !good) return good;
    const std::string sample = "/?" + sample_of(out_.query);
    const auto target = request::canonical_target(sample, {});
    if (!target) return refuse(begin, "no request has this query: " + target.error().text);
    if (target->text == sample) return {};
    return refuse(begin, "no request has this query in its one spelling: write it as in " + quoted(target->text));
  }

  // Placeholders stand for values, not for keys.
  Result<void> check_pairs() const {
    for (std::size_t begin = at_; begin <= text_.size();) {
      const std::size_t end = std::min(text_.find('&', begin), text_.size());
      const std::string_view pair = text_.substr(begin, end - begin);
      if (pair.empty()) return refuse(begin, "a part of the query is empty: remove one '&'");
      const std::size_t brace = pair.find('{');
      if (brace < pair.find('=')) {
        if (brace != std::string_view::npos) {
          return refuse(begin + brace, "a placeholder stands for a value: write 'key={word}', or '?*' for any query");
        }
      }
      begin = end + 1;
    }
    return {};
  }

  // From at_ to `end`.
  Result<void> parse_pieces(std::size_t end, Part part, std::vector<Piece>& out) {
    for (; at_ < end; ++at_) {
      const char c = text_[at_];
      if (c == '{') {
        if (Result<void> good = parse_placeholder(end, out); !good) return good;
        continue;
      }
      if (c == '}') return refuse(at_, "this '}' closes nothing: write %7D where the byte is meant");
      if (c == '*') {
        return refuse(at_,
                      "'*' stands at the very end of a path, or alone for a query: write {any} for one segment or "
                      "value, %2A where the byte is meant");
      }
      if (c <= ' ' || c > '~' || c == '#' || (part == Part::path && c == '\\')) {
        return refuse(at_, "no request has this byte here: write it as an escape, as %20");
      }
      if (out.empty() || out.back().literal.empty()) out.emplace_back();
      out.back().literal += c;
    }
    return {};
  }

  Result<void> parse_placeholder(std::size_t end, std::vector<Piece>& out) {
    const std::size_t close = text_.find('}', at_);
    if (close >= end) return refuse(at_, "this '{' is not closed: write %7B where the byte is meant");
    const std::string_view word = text_.substr(at_ + 1, close - at_ - 1);
    const std::optional<Class> meaning = class_of(word);
    if (!meaning)
      return refuse(at_,
                    "there is no placeholder {" + document::printable(word.substr(0, 32)) + "}: " + instead_of(word));
    if (!out.empty() && out.back().literal.empty()) {
      return refuse(at_, "two placeholders stand side by side: write one, or text between them");
    }
    out.push_back({{}, *meaning});
    at_ = close;
    return {};
  }

  static std::string instead_of(std::string_view word) {
    std::array<std::string_view, kClasses.size()> words;
    std::ranges::transform(kClasses, words.begin(), &ClassName::word);
    const std::string_view meant = document::did_you_mean(word, words);
    if (!meant.empty()) return "write {" + std::string(meant) + "}";
    return "write {int}, {uuid}, {hex}, {date}, {word} or {any}";
  }

  std::string_view rest() const { return text_.substr(at_); }

  std::string_view text_;
  std::size_t at_ = 0;
  Pattern out_;
};

std::string with_escapes(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '*') out += "%2A";
    if (c == '{') out += "%7B";
    if (c == '}') out += "%7D";
    if (c != '*' && c != '{' && c != '}') out += c;
  }
  return out;
}

int compare(const Pattern& a, const Pattern& b) {
  if (a.plain_http != b.plain_http) return a.plain_http ? 1 : -1;
  if (const int host = compare_pieces(a.host, false, b.host, false, Part::host); host != 0) return host;
  if (const int path = compare_pieces(a.path, a.open_path, b.path, b.open_path, Part::path); path != 0) return path;
  if (const int query = compare_pieces(a.query, a.any_query, b.query, b.any_query, Part::query); query != 0)
    return query;
  if (const int method = a.method.compare(b.method); method != 0) return method;
  return a.action.compare(b.action);
}

}  // namespace

bool Pattern::matches(const Operation& operation) const {
  if (operation.method != method || operation.action != action) return false;
  std::string_view name = operation.host;
  if (name.starts_with(kPlain) != plain_http) return false;
  if (plain_http) name.remove_prefix(kPlain.size());
  if (!match_pieces(host, name, Part::host, false)) return false;
  const PlainText plain_path(operation.path), plain_query(operation.query);
  // Longer than any target that this program would send: it matches nothing.
  if (!plain_path.fits() || !plain_query.fits()) return false;
  return match_pieces(path, plain_path.view(), Part::path, open_path) &&
         match_pieces(query, plain_query.view(), Part::query, any_query);
}

std::string Pattern::to_string() const {
  std::string out = method + " ";
  if (plain_http) out += kPlain;
  out += text_of(host) + text_of(path);
  if (open_path) out += '*';
  if (any_query) return out + "?*";
  if (!query.empty()) out += "?" + text_of(query);
  return out;
}

Result<Pattern> parse_pattern(std::string_view text, std::string_view action) { return Parser(text).parse(action); }

bool more_specific(const Pattern& a, const Pattern& b) { return compare(a, b) < 0; }

std::string pattern_text(const Operation& operation) {
  std::string out(operation.method);
  out.append(1, ' ').append(operation.host).append(with_escapes(operation.path));
  if (!operation.query.empty()) out.append(1, '?').append(with_escapes(operation.query));
  return out;
}

}  // namespace sallyport::flow
