"""A server of both APIs of models that takes the requests apart by the official libraries' own types.

What is not of those types, or breaks a rule of the real service, is answered with status 400 and the reason; answers are made
from the libraries' types as well. Prints its port.
"""

import base64
import json
import struct
import sys
import types
import typing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anthropic.types as anthropic
import openai.types as openai
import openai.types.chat as chat
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from openai.types.embedding_create_params import EmbeddingCreateParams
from typing_extensions import NotRequired, Required, is_typeddict


class Wrong(Exception):
    pass


def check(value, kind, place):
    """Says that a JSON value is of a type of a library; unlike the types themselves, no unknown field passes."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Required, NotRequired, typing.Annotated):
        return check(value, inner[0], place)
    if kind is typing.Any or kind is object:
        return
    if origin in (typing.Union, types.UnionType):
        reasons = []
        for one in inner:
            try:
                return check(value, one, place)
            except Wrong as wrong:
                reasons.append(str(wrong))
        raise Wrong(max(reasons, key=len))
    if origin is typing.Literal:
        if value not in inner:
            raise Wrong(f"{place}: {value!r} is none of {inner}")
        return
    if is_typeddict(kind):
        if not isinstance(value, dict):
            raise Wrong(f"{place}: {value!r} is no {kind.__name__}")
        hints = typing.get_type_hints(kind, include_extras=True)
        for name in kind.__required_keys__ - value.keys():
            raise Wrong(f"{place}.{name} is missing in a {kind.__name__}")
        for name, one in value.items():
            if name not in hints:
                raise Wrong(f"{place}.{name} is no field of {kind.__name__}")
            check(one, hints[name], f"{place}.{name}")
        return
    name = getattr(origin, "__name__", "")
    if name in ("list", "Iterable", "Sequence"):
        if not isinstance(value, list):
            raise Wrong(f"{place}: {value!r} is no list")
        for index, one in enumerate(value):
            check(one, inner[0] if inner else object, f"{place}[{index}]")
        return
    if name in ("dict", "Mapping") or kind is dict:
        if not isinstance(value, dict):
            raise Wrong(f"{place}: {value!r} is no object")
        return
    if kind is float:
        kind = (int, float)
    if kind is type(None):
        if value is not None:
            raise Wrong(f"{place}: {value!r} is not null")
        return
    if not isinstance(kind, (type, tuple)) or not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise Wrong(f"{place}: {value!r} is no {kind}")


# MARK: Anthropic


def messages(request):
    check(request, MessageCreateParamsStreaming, "request")
    turns = request["messages"]
    asked = []
    for before, turn in zip([None] + turns, turns):
        if before and before["role"] == turn["role"]:
            raise Wrong("two turns of one side")
        results = [block["tool_use_id"] for block in turn["content"] if block["type"] == "tool_result"]
        if results != asked:
            raise Wrong(f"the tools {asked} were asked for, and {results} answered")
        if any(block["type"] == "tool_result" for block in turn["content"][len(results):]):
            raise Wrong("a result comes after text")
        if any(block["type"] == "text" and not block["text"].strip() for block in turn["content"]):
            raise Wrong("text content blocks must be non-empty")
        asked = [block["id"] for block in turn["content"] if block["type"] == "tool_use"]
    marks = json.dumps(request).count("cache_control")
    if marks > 4:
        raise Wrong(f"{marks} marks of the cache")
    last = turns[-1]["content"]
    usage = anthropic.Usage(input_tokens=11, output_tokens=22, cache_read_input_tokens=33, cache_creation_input_tokens=44)
    if any(block["type"] == "tool_result" for block in last):
        thinking = [block for block in turns[1]["content"] if block["type"] == "thinking"]
        if thinking != [{"type": "thinking", "thinking": "I look.", "signature": "c2ln"}]:
            raise Wrong(f"the thoughts came back as {thinking}")
        said = " ".join(f"{block['tool_use_id']}={block['content']}{'!' if block.get('is_error') else ''}"
                        for block in last if block["type"] == "tool_result")
        content = [anthropic.TextBlock(type="text", text=f"Done: {said} ü")]
        stop = "end_turn"
    else:
        content = [
            anthropic.ThinkingBlock(type="thinking", thinking="I look.", signature="c2ln"),
            anthropic.TextBlock(type="text", text="Reading both."),
            anthropic.ToolUseBlock(type="tool_use", id="toolu_1", name="file_read", input={"path": "/a"}),
            anthropic.ToolUseBlock(type="tool_use", id="toolu_2", name="file_read", input={"path": "/ü", "deep": {"x": [1, 2.5]}}),
        ]
        stop = "tool_use"
    return anthropic.Message(id="msg_1", type="message", role="assistant", model="claude-peer", content=content,
                             stop_reason=stop, usage=usage)


def message_events(message):
    start = message.model_copy(update={"content": [], "stop_reason": None})
    yield anthropic.RawMessageStartEvent(type="message_start", message=start)
    for index, block in enumerate(message.content):
        empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}[block.type]
        yield anthropic.RawContentBlockStartEvent(
            type="content_block_start", index=index, content_block=block.model_copy(update=empty))
        if block.type == "text":
            deltas = [anthropic.TextDelta(type="text_delta", text=one) for one in pieces(block.text)]
        elif block.type == "thinking":
            deltas = [anthropic.ThinkingDelta(type="thinking_delta", thinking=one) for one in pieces(block.thinking)]
            deltas.append(anthropic.SignatureDelta(type="signature_delta", signature=block.signature))
        else:
            text = json.dumps(block.input)
            deltas = [anthropic.InputJSONDelta(type="input_json_delta", partial_json=one) for one in pieces(text)]
        for delta in deltas:
            yield anthropic.RawContentBlockDeltaEvent(type="content_block_delta", index=index, delta=delta)
        yield anthropic.RawContentBlockStopEvent(type="content_block_stop", index=index)
    yield anthropic.RawMessageDeltaEvent(
        type="message_delta", delta={"stop_reason": message.stop_reason}, usage={"output_tokens": message.usage.output_tokens})
    yield anthropic.RawMessageStopEvent(type="message_stop")


# MARK: OpenAI


def completions(request):
    check(request, CompletionCreateParamsStreaming, "request")
    turns = request["messages"]
    waiting = []
    for turn in turns:
        if turn["role"] == "tool":
            if not waiting or waiting.pop(0) != turn["tool_call_id"]:
                raise Wrong(f"the result of {turn['tool_call_id']} answers nothing")
            continue
        if waiting:
            raise Wrong(f"{waiting} are not answered")
        waiting = [call["id"] for call in turn.get("tool_calls", [])]
        for call in turn.get("tool_calls", []):
            json.loads(call["function"]["arguments"])
    if waiting:
        raise Wrong(f"{waiting} are not answered")
    results = [turn for turn in turns if turn["role"] == "tool"]
    usage = openai.CompletionUsage(
        prompt_tokens=44, completion_tokens=22, total_tokens=66, prompt_tokens_details={"cached_tokens": 33, "cache_write_tokens": 4})
    if results:
        said = " ".join(f"{turn['tool_call_id']}={turn['content']}" for turn in results)
        message = chat.ChatCompletionMessage(role="assistant", content=f"Done: {said} ü")
        finish = "stop"
    else:
        message = chat.ChatCompletionMessage(
            role="assistant", content="Reading both.",
            tool_calls=[
                chat.ChatCompletionMessageFunctionToolCall(
                    id=f"call_{number}", type="function", function={"name": "file_read", "arguments": arguments})
                for number, arguments in ((1, '{"path": "/a"}'), (2, '{"path": "/ü", "deep": {"x": [1, 2.5]}}'))
            ])
        finish = "tool_calls"
    return chat.ChatCompletion(
        id="cmpl", object="chat.completion", created=1, model="gpt-peer", usage=usage,
        choices=[{"index": 0, "finish_reason": finish, "message": message, "logprobs": None}])


def completion_chunks(completion, counts):
    def chunk(delta, finish=None):
        return chat.ChatCompletionChunk(
            id="cmpl", object="chat.completion.chunk", created=1, model="gpt-peer",
            choices=[{"index": 0, "delta": delta, "finish_reason": finish}])

    message = completion.choices[0].message
    yield chunk({"role": "assistant", "content": ""})
    for one in pieces(message.content):
        yield chunk({"content": one})
    for index, call in enumerate(message.tool_calls or []):
        yield chunk({"tool_calls": [{"index": index, "id": call.id, "type": "function",
                                     "function": {"name": call.function.name, "arguments": ""}}]})
        for one in pieces(call.function.arguments):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": one}}]})
    yield chunk({}, completion.choices[0].finish_reason)
    if counts:
        yield chat.ChatCompletionChunk(
            id="cmpl", object="chat.completion.chunk", created=1, model="gpt-peer", choices=[], usage=completion.usage)


def embeddings(request):
    check(request, EmbeddingCreateParams, "request")
    if request.get("dimensions", 3) != 3:
        raise Wrong("this model has 3 dimensions")
    points = [[float(len(text)), 0.5, -1.0] for text in request["input"]]
    data = [
        openai.Embedding.model_construct(object="embedding", index=index, embedding=point)
        for index, point in enumerate(points)
    ]
    answer = openai.CreateEmbeddingResponse.model_construct(
        object="list", model="embed-peer", data=list(reversed(data)), usage={"prompt_tokens": 1, "total_tokens": 1})
    out = answer.model_dump()
    if request.get("encoding_format") == "base64":
        for item in out["data"]:
            item["embedding"] = base64.b64encode(struct.pack("<3f", *item["embedding"])).decode()
    return out


def pieces(text):
    return [text[start:start + 3] for start in range(0, len(text), 3)]


class Peer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, value, **more):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in more.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)

    def stream(self, events):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for text in events:
            data = text.encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_anthropic = self.path == "/v1/messages"
        try:
            if is_anthropic:
                self.serve_messages(request)
            elif self.path == "/v1/chat/completions":
                self.serve_completions(request)
            elif self.path == "/v1/embeddings":
                self.need("authorization", "Bearer right")
                self.answer(200, embeddings(request))
            else:
                self.answer(404, {"detail": "Not Found"})
        except Wrong as wrong:
            self.refuse(400, "invalid_request_error", str(wrong), is_anthropic)
        except PermissionError as wrong:
            self.refuse(401, "authentication_error", str(wrong), is_anthropic)

    def refuse(self, status, kind, text, is_anthropic):
        if is_anthropic:
            self.answer(status, {"type": "error", "error": {"type": kind, "message": text}})
        else:
            self.answer(status, {"error": {"message": text, "type": kind, "param": None, "code": None}})

    def need(self, header, value):
        if self.headers.get(header) != value:
            raise PermissionError(f"{header} is not what it must be")

    def serve_messages(self, request):
        self.need("x-api-key", "right")
        self.need("anthropic-version", "2023-06-01")
        message = messages(request)
        if request["model"].endswith("whole"):
            return self.answer(200, json.loads(message.model_dump_json()))
        self.stream(f"event: {event.type}\ndata: {event.model_dump_json()}\n\n" for event in message_events(message))

    def serve_completions(self, request):
        self.need("authorization", "Bearer right")
        completion = completions(request)
        if request["model"].endswith("whole"):
            return self.answer(200, json.loads(completion.model_dump_json()))
        counts = (request.get("stream_options") or {}).get("include_usage", False)
        chunks = [f"data: {chunk.model_dump_json()}\n\n" for chunk in completion_chunks(completion, counts)]
        self.stream(chunks + ["data: [DONE]\n\n"])


server = ThreadingHTTPServer(("127.0.0.1", 0), Peer)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
