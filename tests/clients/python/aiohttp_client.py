"""aiohttp, one session."""

import asyncio

import aiohttp
import steps

loop = asyncio.new_event_loop()


async def make_session():
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))


session = loop.run_until_complete(make_session())


async def ask(method, url):
    async with session.request(method, url, data=steps.body() if method == "POST" else None) as answer:
        return answer.status, await answer.text()


steps.serve(lambda method, url: loop.run_until_complete(ask(method, url)))
loop.run_until_complete(session.close())
