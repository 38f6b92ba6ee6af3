#pragma once
// A request or response head as the chain sees it: no codec, no framing. HTTP/1 and HTTP/2 both fill it and
// both serialise from it. What a codec owns never appears here: Host and :authority (a field of RequestHead), framing
// (Content-Length, Transfer-Encoding), and connection-specific fields (RFC 9110 section 7.6.1, RFC 9113 section 8.2.2).

#include <cstddef>
#include <cstdint>
#include <forward_list>
#include <string>
#include <string_view>
#include <vector>

namespace sallyport::request {

enum class Scheme : std::uint8_t { http, https };

struct Header {
  std::string_view name;   // a token (RFC 9110 section 5.6.2), spelled as the sender spelled it
  std::string_view value;  // no CR, LF, NUL; surrounding whitespace removed
};

// Compares field names: ASCII, without regard to case.
bool name_equals(std::string_view a, std::string_view b);

// Fields in the sender's order. Views point into the buffer that the head was parsed from, or into values that this
// list owns; owned values are wiped when they go, as they may hold credentials. Not copyable.
class HeaderList {
 public:
  HeaderList() = default;
  HeaderList(const HeaderList&) = delete;
  HeaderList& operator=(const HeaderList&) = delete;
  ~HeaderList();

  void clear();  // keeps capacity
  void add(std::string_view name, std::string_view value) { fields_.push_back({name, value}); }
  void add_owned(std::string_view name, std::string value);  // name must outlive the list: a literal
  // Replaces the value of the i-th field; the field keeps its name and place.
  void replace_value(std::size_t i, std::string value);
  void erase(std::string_view name);  // every field of that name
  void erase_at(std::size_t i) { fields_.erase(fields_.begin() + static_cast<std::ptrdiff_t>(i)); }
  // The first field of that name, or nullptr.
  const Header* find(std::string_view name) const;
  std::size_t count(std::string_view name) const;

  std::size_t size() const { return fields_.size(); }
  bool empty() const { return fields_.empty(); }
  const Header& operator[](std::size_t i) const { return fields_[i]; }
  auto begin() const { return fields_.begin(); }
  auto end() const { return fields_.end(); }

 private:
  std::vector<Header> fields_;
  std::forward_list<std::string> owned_;  // addresses stay when it grows; an empty one allocates nothing
};

struct RequestHead {
  std::string_view method;
  std::string_view target;     // as received: origin-form, absolute-form or "*"
  std::string_view authority;  // Host or :authority as received; empty if there was none
  HeaderList headers;
};

struct ResponseHead {
  int status = 0;           // 100 to 599
  std::string_view reason;  // HTTP/1 only; may be empty
  HeaderList headers;
};

}  // namespace sallyport::request
