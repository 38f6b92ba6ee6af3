#pragma once
// Many small things that come and go, known by 32-bit numbers, and lists through them: half the memory of pointers, and
// no allocation each.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace sallyport::controller {

inline constexpr std::uint32_t kNil = ~std::uint32_t{0};

// Things stay where they are while the pool grows.
template <class T>
class Pool {
 public:
  T& operator[](std::uint32_t at) { return (*pieces_[at / kPiece])[at % kPiece]; }
  const T& operator[](std::uint32_t at) const { return (*pieces_[at / kPiece])[at % kPiece]; }

  std::uint32_t take() {
    ++used_;
    if (!free_.empty()) {
      const std::uint32_t at = free_.back();
      free_.pop_back();
      (*this)[at] = T{};
      return at;
    }
    if (next_ % kPiece == 0) pieces_.push_back(std::make_unique<Piece>());
    return next_++;
  }
  void give_back(std::uint32_t at) {
    --used_;
    free_.push_back(at);
  }
  std::size_t used() const { return used_; }

 private:
  static constexpr std::uint32_t kPiece = 4'096;
  using Piece = std::array<T, kPiece>;
  std::vector<std::unique_ptr<Piece>> pieces_;
  std::vector<std::uint32_t> free_;
  std::uint32_t next_ = 0;
  std::size_t used_ = 0;
};

struct Link {
  std::uint32_t prev = kNil, next = kNil;
};

// A list of things of a pool, through one of their links.
template <class T, Link T::* kLink>
struct List {
  std::uint32_t head = kNil, tail = kNil;

  bool empty() const { return head == kNil; }
  void push_back(Pool<T>& pool, std::uint32_t at) {
    pool[at].*kLink = {tail, kNil};
    (tail == kNil ? head : (pool[tail].*kLink).next) = at;
    tail = at;
  }
  void push_front(Pool<T>& pool, std::uint32_t at) {
    pool[at].*kLink = {kNil, head};
    (head == kNil ? tail : (pool[head].*kLink).prev) = at;
    head = at;
  }
  void remove(Pool<T>& pool, std::uint32_t at) {
    const Link link = pool[at].*kLink;
    (link.prev == kNil ? head : (pool[link.prev].*kLink).next) = link.next;
    (link.next == kNil ? tail : (pool[link.next].*kLink).prev) = link.prev;
    pool[at].*kLink = {};
  }
};

}  // namespace sallyport::controller
