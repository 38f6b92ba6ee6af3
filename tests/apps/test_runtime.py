"""The loop of a function's process, with a Runtime API that ends connections."""

import lab
import origin
import runtime

PORT = 9901


def test_a_connection_that_was_closed_meanwhile_is_made_anew(world):
    """As a guard closes one while a handler takes its time."""
    seen = []

    def answer(c, request):
        seen.append((request.method, request.path, request.connection.id))
        c.answer({"status": "OK"}, "202 Accepted")
        c.open = False

    origin.Origin([lab.CLOUD_V4], PORT, handler=answer)
    api = runtime.RuntimeApi(f"{lab.CLOUD_V4}:{PORT}")
    for number in range(3):
        assert api.ask("POST", f"/invocation/{number}/response", b"{}")[0] == 202
    asked = [f"/2018-06-01/runtime/invocation/{number}/response" for number in range(3)]
    assert [path for _, path, _ in seen] == asked, "each is asked once"
    assert len({connection for _, _, connection in seen}) == 3
