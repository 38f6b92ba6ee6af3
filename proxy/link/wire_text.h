#pragma once
// Strings of the link's messages. Where one is not UTF-8, protobuf takes none of the message that it is in, and the
// other end ends the link: what a function puts into its requests must not get there.

#include <google/protobuf/message.h>

namespace sallyport::link {

// Whether every string of the message, and of those in it, is UTF-8 (RFC 3629).
bool all_utf8(const google::protobuf::Message& message);
// Makes it so: '?' in place of each byte that is not part of any. For what is told, not for what is decided.
void make_utf8(google::protobuf::Message& message);

// Protobuf's library writes a line on standard error for each string that is not UTF-8, and so strangers would. For the
// whole process, once.
void keep_protobuf_quiet();

}  // namespace sallyport::link
