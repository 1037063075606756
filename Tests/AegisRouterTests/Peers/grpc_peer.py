"""A gRPC server and a gRPC client that the router's tests put at its two ends.

    grpc_peer.py serve            prints its port; ends when its standard input does
    grpc_peer.py serve PORT       on that port, until it is stopped
    grpc_peer.py check PORT WHAT  calls through PORT; prints "ok", or fails
"""

import sys
import threading
import time
from concurrent import futures

import grpc

OPTIONS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
cancelled = threading.Event()


def unary(request, context):
    return request


def describe(request, context):
    context.set_trailing_metadata((("x-end", "here"), ("x-blob-bin", bytes([0, 1, 255]))))
    context.send_initial_metadata((("x-begin", "there"),))
    lines = ["%s=%s" % (key, value) for key, value in context.invocation_metadata()]
    return "\n".join(sorted(lines) + ["peer-time=%.1f" % (context.time_remaining() or -1)]).encode()


def down(request, context):
    count, size = (int(part) for part in request.split())
    for index in range(count):
        yield bytes([index % 256]) * size


def up(requests, context):
    return b"%d" % sum(len(request) for request in requests)


def both(requests, context):
    for request in requests:
        yield request


def wait(request, context):
    context.add_callback(cancelled.set)
    cancelled.wait(30)
    return b"late"


def was_cancelled(request, context):
    return b"yes" if cancelled.wait(10) else b"no"


def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no, \u00e4 never")


def die(request, context):
    import os

    yield b"first"
    os._exit(3)


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=130), options=OPTIONS)
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Describe": grpc.unary_unary_rpc_method_handler(describe),
        "Down": grpc.unary_stream_rpc_method_handler(down),
        "Up": grpc.stream_unary_rpc_method_handler(up),
        "Both": grpc.stream_stream_rpc_method_handler(both),
        "Wait": grpc.unary_unary_rpc_method_handler(wait),
        "WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Die": grpc.unary_stream_rpc_method_handler(die),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", handlers),))
    wanted = sys.argv[2] if len(sys.argv) > 2 else "0"
    port = server.add_insecure_port("127.0.0.1:" + wanted)
    server.start()
    print("run" if port == int(wanted) else port, flush=True)
    if port == int(wanted):
        server.wait_for_termination()
    sys.stdin.read()
    server.stop(None)


def expect(found, wanted):
    assert found == wanted, "found %r, not %r" % (found, wanted)


def status(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


def check_calls(channel):
    expect(channel.unary_unary("/t.T/Unary")(b"hello"), b"hello")
    expect(channel.unary_unary("/t.T/Unary")(b""), b"")
    parts = list(channel.unary_stream("/t.T/Down")(b"50 1000"))
    expect([len(part) for part in parts], [1000] * 50)
    expect(parts[49][0], 49)
    expect(channel.stream_unary("/t.T/Up")(iter([b"x" * 1000] * 50)), b"50000")
    sent = [bytes([index]) * index for index in range(100)]
    expect(list(channel.stream_stream("/t.T/Both")(iter(sent))), sent)


def check_metadata(channel):
    reply, call = channel.unary_unary("/t.T/Describe").with_call(
        b"", timeout=200, metadata=(("x-mine", "1"), ("x-forwarded-for", "10.0.0.1"), ("x-aegis-instance", "other"))
    )
    lines = reply.decode().split("\n")
    assert "x-mine=1" in lines, lines
    expect([line for line in lines if line.startswith("x-forwarded-for=")], ["x-forwarded-for=127.0.0.1"])
    assert any(line.startswith("x-forwarded-host=127.0.0.1:") for line in lines), lines
    assert not any(line.startswith("x-aegis-instance") for line in lines), lines
    left = float(lines[-1].split("=")[1])
    # Long times are sent in whole seconds, rounded up.
    assert 100 < left < 203, left
    expect(dict(call.initial_metadata())["x-begin"], "there")
    trailers = dict(call.trailing_metadata())
    expect((trailers["x-end"], trailers["x-blob-bin"]), ("here", bytes([0, 1, 255])))
    expect(status(lambda: channel.unary_unary("/t.T/Fail")(b"")), ("FAILED_PRECONDITION", "no, \u00e4 never"))
    expect(status(lambda: channel.unary_unary("/t.T/None")(b""))[0], "UNIMPLEMENTED")


def check_big(channel):
    big = bytes(range(256)) * (20 << 12)
    expect(channel.unary_unary("/t.T/Unary")(big) == big, True)
    expect(channel.stream_unary("/t.T/Up")(iter([b"x" * (1 << 20)] * 32)), b"%d" % (32 << 20))
    expect(sum(map(len, channel.unary_stream("/t.T/Down")(b"32 1048576"))), 32 << 20)


def check_many(channel):
    call = channel.unary_unary("/t.T/Unary")
    both = channel.stream_stream("/t.T/Both")
    pending = [call.future(b"%d" % index * 100) for index in range(100)]
    for index, one in enumerate(pending):
        expect(one.result(), b"%d" % index * 100)
    streams = [both(iter([b"%d" % index] * 20)) for index in range(100)]
    for index, one in enumerate(streams):
        expect(list(one), [b"%d" % index] * 20)


def check_cancel(channel):
    # On a busy machine the time may be over before the call is at the server: then there is nothing to cancel.
    for attempt in range(6):
        name, _ = status(lambda: channel.unary_unary("/t.T/Wait")(b"", timeout=0.3 * 2**attempt))
        expect(name, "DEADLINE_EXCEEDED")
        if channel.unary_unary("/t.T/WasCancelled")(b"") == b"yes":
            break
    else:
        raise AssertionError("the server was not told")
    stream = channel.unary_stream("/t.T/Down")(b"100000 100000")
    next(stream)
    stream.cancel()
    expect(channel.unary_unary("/t.T/Unary")(b"after"), b"after")


def check_slow(channel):
    """A reader that does not read stops the sender, and nobody else."""
    stream = channel.unary_stream("/t.T/Down")(b"2000 100000")
    next(stream)
    time.sleep(0.3)
    expect(channel.unary_unary("/t.T/Unary")(b"meanwhile"), b"meanwhile")
    expect(sum(1 for _ in stream), 1999)


def check_death(channel):
    stream = channel.unary_stream("/t.T/Die")(b"")
    expect(next(stream), b"first")
    print(*status(lambda: list(stream)))


def check_status(channel):
    """What a call comes to whose server does not."""
    # Without a deadline: a call waits for its own.
    print(*status(lambda: channel.unary_unary("/t.T/Unary")(b"x")))


def check_patient(channel):
    """A call that has more time than its port waits."""
    expect(channel.unary_unary("/t.T/Unary")(b"x", timeout=100), b"x")


def check_hurry(channel):
    """A call that has less time than its server takes to come."""
    print(status(lambda: channel.unary_unary("/t.T/Unary")(b"x", timeout=1))[0])


def main():
    if sys.argv[1] == "serve":
        return serve()
    for what in sys.argv[3:]:
        with grpc.insecure_channel("127.0.0.1:" + sys.argv[2], options=OPTIONS) as channel:
            globals()["check_" + what](channel)
    print("ok")


main()
