"""The comparison of compare.py for connections of HTTP/2, where each stream is answered, or reset, by itself."""

import compare
import http2_cases
import http2_reading


class Comparison(compare.Comparison):
    def conversation(self, number, at, scheme, streams, ended):
        case = http2_cases.make(self.seed, number, self.hosts, at, scheme)
        self.report.connections += 1
        self.report.requests += len(case.streams)
        self.report.endings[ended] += 1
        if ended not in ("cut", "done", "goaway", "end", "ConnectionResetError"):
            self.differ(f"the connection ended with {ended}", case)
        answers = {stream[0]: stream[1:] for stream in streams}
        for stream in case.streams:
            request, begun = http2_reading.read(stream, scheme)
            if begun:
                self.in_records.possible[self.record_key(scheme, begun)] += 1
            self.report.whole += request is not None
            answer = answers.pop(stream.number, None)
            if answer is None or answer[0] is None:
                self.unanswered(case, stream, request, ended, answer)
            else:
                self.answered(case, scheme, stream, request, ended, answer)
        if answers:
            self.differ(f"answers on streams that were not opened: {answers}", case)

    def unanswered(self, case, stream, request, ended, answer):
        reset = answer[5] if answer else None
        if reset is None and ended == "done" and not stream.given_up:
            self.differ("a stream without an end", case)
        if request is None:
            self.report.refused[f"reset {reset}" if reset is not None else ended] += 1
            return
        self.may_have_happened(case.scheme, request)
        if ended != "cut":
            self.report.stricter[f"reset {reset}" if reset is not None else ended] += 1

    def answered(self, case, scheme, stream, request, ended, answer):
        status, seen, denied, identity, whole, reset = answer
        if not whole:
            # A server, or the guard, gave up in the middle of its answer, and the function was told so.
            self.report.declined["broken", reset] += 1
            if reset is None and ended == "done" and not stream.given_up:
                self.differ("an answer without an end", case)
            if request is not None:
                self.may_have_happened(scheme, request)
            return
        response = [status, seen, denied, identity, False]
        if request is None:
            if seen or denied is None:
                self.early(case, stream, response)
            else:
                self.denial(case, response)
            return
        self.one_response(case, scheme, request, response)

    def early(self, case, stream, response):
        """An answer that is not the guard's, to what is no whole request: only from a server that did not wait for its
        body, and names nothing that it has understood."""
        status, seen, _, _, _ = response
        bodyless = not stream.parts and stream.trailers is None and stream.finished
        if seen or bodyless:
            self.differ(f"answered with {status} by a server, though it is no request: {stream}", case)
        self.report.declined["early", status] += 1
