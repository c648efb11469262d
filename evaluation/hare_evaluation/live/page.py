"""The page: what a browser shows of a `LiveSession`, and the server that serves it. It decides nothing by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from nicegui import app, events, run, ui
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from hare_evaluation.live import charts
from hare_evaluation.live.ratings import COMPLAINTS, Rating
from hare_evaluation.live.session import LiveSession, Turn
from hare_evaluation.live.states import MOST_BYTES
from hare_evaluation.live.store import Sessions
from hare_gym.errors import HareError
from hare_gym.text.skills import SkillError, parse

MYSELF = "Me, I rate by myself"
PLAYED = 5
_TYPED = 4000  # the browser cuts a need here; what the session finds too long is refused with a sentence
_PARTS = ("relevance", "domain", "level", "specificity", "style")
_NOTES = {
    "state": "What sets this user apart from the average one, in units of reward. Dark: sure.",
    "attention": "Where HARE looks for this need and user, among clusters of the skills it knows.",
    "entropy": "How widely HARE looks, over six needs: it falls as a user gets known.",
    "rewards": "Lines: means so far. Dots: rounds.",
}
LOCAL = ("127.0.0.1", "localhost", "::1")
# Nothing may be loaded from elsewhere, whatever the page holds. NiceGUI's own scripts are inline.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'"
)


class Page:
    """One open page.

    Args:
        sessions: Where its session is.
        id: Whose session it shows.
    """

    def __init__(self, sessions: Sessions, id: str) -> None:
        self.sessions, self.id = sessions, id
        self.complaints: set[str] = set()
        self.stars = 0
        self.busy = False
        self.main = ui.element("main").classes("live").props("aria-busy=false")
        with self.main:
            self._head()
            self._ask_row()
            self.message = ui.label().classes("message").props('id=message role="alert"')
            self.message.set_visibility(False)
            with ui.element("div").classes("grid"):
                with ui.element("div").classes("left"):
                    self.cards = ui.element("div").classes("cards")
                    with ui.element("div").classes("controls"):
                        self._writers()
                        self._exploration()
                        self._data()
                with ui.element("div").classes("right"):
                    self._charts()
        self.show()

    @property
    def session(self) -> LiveSession:
        """The session; asked for anew each time, as it may have left the server's memory."""
        return self.sessions.get(self.id)

    # -- building -----------------------------------------------------------------------------------------------

    def _head(self) -> None:
        with ui.element("header").classes("head"):
            ui.html("HARE, live", tag="h1", sanitize=False)
            ui.label(
                "Two assistants answer a need with a skill: RAG gives everybody the same, HARE learns from ratings "
                "what is good for you."
            ).classes("what")
            self.local = ui.label().classes("local")

    def _ask_row(self) -> None:
        session = self.session
        people = {-1: MYSELF} | {k: persona.name for k, persona in enumerate(session.world.personas)}
        with ui.element("section").classes("panel"):
            with ui.element("div").classes("askrow"):
                self.who = (
                    ui.select(people, value=session.persona, label="Who asks and rates?", on_change=self._became)
                    .props("outlined dense options-dense id=who")
                    .classes("asker")
                )
                self.need = (
                    ui.input(placeholder="What do you need help with?", value=session.world.examples[0])
                    .props(f'outlined dense maxlength={_TYPED} aria-label="Your need" id=need')
                    .classes("need")
                    .on("keydown.enter", self._asked)
                )
                self.ask = ui.button("Ask both", on_click=self._asked).props("unelevated color=primary id=ask")
                self.play = ui.button(f"Let them ask {PLAYED} times", on_click=self._played).props(
                    "outline color=primary id=play"
                )
            with ui.element("div").classes("under"):
                self.hidden = ui.html("", sanitize=False).classes("note who").props("id=hidden")
                with ui.element("div").classes("examples"):
                    for example in session.world.examples:
                        ui.button(example, on_click=lambda _, text=example: self.need.set_value(text)).props(
                            "flat dense"
                        )

    def _charts(self) -> None:
        self.drawn: dict[str, ui.html] = {}
        heads = {
            "state": "User state u<sub>t</sub>",
            "attention": "Attention",
            "entropy": "Entropy of attention",
            "rewards": "Reward",
        }
        with ui.element("div").classes("charts"):
            for name, head in heads.items():
                with ui.element("section").classes("panel"):
                    ui.html(head, tag="h2", sanitize=False)
                    ui.label(_NOTES[name]).classes("note").props(f"id=note-{name}")
                    self.drawn[name] = ui.html("", sanitize=False).props(f"id=chart-{name}")

    def _writers(self) -> None:
        session = self.session
        writers = {each.name: each.label for each in session.world.writers()}
        with ui.element("section").classes("panel"):
            ui.html("Who writes?", tag="h2", sanitize=False)
            ui.select(writers, value=session.settings.writer, on_change=self._writer_chosen).props(
                'outlined dense options-dense aria-label="Who writes" id=writer'
            )
            self.writer_note = ui.label().classes("note").props("id=writer-note")

    def _exploration(self) -> None:
        session = self.session
        with ui.element("section").classes("panel"):
            ui.html("Exploration", tag="h2", sanitize=False)
            self.alpha = self._slider("α: unexplored clusters", session.settings.alpha, 2.0, "alpha")
            self.beta = self._slider("β: what is unsure of you", float(session.settings.beta or 0.0), 5.0, "beta")
            ui.label("How much HARE tries what it does not know; 0 is never.").classes("note")

    def _slider(self, name: str, value: float, most: float, id: str) -> ui.slider:
        with ui.element("div").classes("knob"):
            ui.label(name)
            shown = ui.html(f"<b>{value:.2f}</b>", sanitize=False)
        slider = ui.slider(min=0.0, max=most, step=0.05, value=value).props(f'id={id} aria-label="{name}"')
        slider.on_value_change(lambda event: shown.set_content(f"<b>{event.value:.2f}</b>"))
        slider.on("change", self._explored)
        return slider

    def _data(self) -> None:
        with ui.element("section").classes("panel"):
            ui.html("Your data", tag="h2", sanitize=False)
            with ui.element("div").classes("tools"):
                ui.button("Save state", on_click=self._saved).props("flat id=save")
                upload = (
                    ui.upload(
                        auto_upload=True,
                        max_file_size=MOST_BYTES,
                        on_upload=self._loaded,
                        on_rejected=lambda: self._say("That file is too large to be a state."),
                    )
                    .props('accept=".npz" id=upload')
                    .classes("unseen")
                )
                ui.button("Load state", on_click=lambda: upload.run_method("pickFiles")).props("flat id=load")
                ui.button("Export", on_click=self._exported).props("flat id=export")
                ui.button("Forget me", on_click=self._forgotten).props("flat id=forget")
            ui.label(
                "A state is what HARE learned; the export has the rounds. To forget, HARE is made anew without yours."
            ).classes("note")

    # -- showing ------------------------------------------------------------------------------------------------

    def show(self) -> None:
        """Shows the session as it is."""
        session = self.session
        told, mine = session.explain(), session.mine
        self.drawn["state"].set_content(charts.user_state(told))
        self.drawn["attention"].set_content(charts.attention(told))
        self.drawn["entropy"].set_content(charts.entropies(told))
        self.drawn["rewards"].set_content(charts.rewards(told))
        persona = session.persona >= 0
        self.play.set_visibility(persona)
        self.hidden.set_content(_hidden(session))
        (writer,) = (each for each in session.world.writers() if each.name == session.settings.writer)
        leaves = writer.leaves
        self.local.set_text("needs and skills are sent to Claude" if leaves else "nothing leaves this machine")
        self.local.classes(add="leaves" if leaves else "", remove="" if leaves else "leaves")
        self.writer_note.set_text(
            f"Missing here: {writer.missing}." if writer.missing else "Both assistants write with it."
        )
        self.cards.clear()
        with self.cards:
            if mine:
                self._card(mine[-1], "hare")
                self._card(mine[-1], "rag")
            else:
                for name in ("hare", "rag"):
                    with ui.element("section").classes(f"panel skill {name}"):
                        who = "HARE" if name == "hare" else "RAG"
                        ui.label(f"{who}'s skill comes here: ask for something.").classes("empty")

    def _card(self, turn: Turn, name: str) -> None:
        text = turn.hare if name == "hare" else turn.rag
        with ui.element("section").classes(f"panel skill {name}").props(f"id=card-{name}"):
            with ui.element("div").classes("top"):
                who = "<b>HARE</b>, for this user" if name == "hare" else "<b>RAG</b>, for everybody"
                expected = turn.expected.get("HARE" if name == "hare" else "RAG")
                rounds = f"round {1 + self.session.mine.index(turn)}"
                worth = "" if expected is None else f"reward {expected:.2f} · "
                ui.html(f"<span>{who}</span><span>{worth}{rounds}</span>", sanitize=False).classes("who")
                ui.label(_title(text)).classes("title").props(f"id=title-{name}")
            with ui.element("div").classes("text").props(f"id=text-{name} tabindex=0"):
                _skill(text)
            with ui.element("div").classes("foot").props(f"id=foot-{name}"):
                if turn.persona >= 0:
                    _persona_foot(turn, name)
                elif name == "hare":
                    self._rating_foot(turn)
                else:
                    self._rag_foot(turn)

    def _rating_foot(self, turn: Turn) -> None:
        if turn.rated:
            ui.html(f"You rated it: {_stars(turn.stars)}", sanitize=False)
            ui.html(_chips(turn.complaints), sanitize=False)
            ui.label("HARE has learned from it. Ask again to see what changed.").classes("note")
            return
        self.complaints, self.stars = set(), 0
        with ui.element("div").classes("rate"):
            ui.rating(max=5, size="24px", color="amber-8", on_change=self._starred).props("id=stars")
            ui.button("Teach HARE", on_click=lambda: self._rated(turn.number)).props(
                "unelevated dense color=primary padding='4px 14px' id=rate"
            )
        with ui.element("div"):
            for complaint in COMPLAINTS:
                ui.chip(
                    complaint,
                    selectable=True,
                    on_selection_change=lambda event, which=complaint: self._complained(which, event.sender.selected),
                ).props(f'outline color=grey-8 id="complaint-{complaint.replace(" ", "-")}"')

    def _rag_foot(self, turn: Turn) -> None:
        if turn.rag_stars:
            ui.html(f"You rated it: {_stars(turn.rag_stars)}", sanitize=False)
            ui.label("Retrieval learns nothing from it: the same need gets the same skill.").classes("note")
            return
        with ui.element("div").classes("rate"):
            ui.rating(
                max=5, size="24px", color="amber-8", on_change=lambda event: self._rag_rated(turn.number, event.value)
            ).props("id=stars-rag")
        ui.label("Optional: rate it too, and the curves can be compared.").classes("note")

    def _say(self, text: str, good: bool = False) -> None:
        self.message.set_text(text)
        self.message.classes(add="good" if good else "", remove="" if good else "good")
        self.message.set_visibility(bool(text))

    # -- what is done -------------------------------------------------------------------------------------------

    async def _do(self, work: Callable[[], Any], watch: dict[str, str] | None = None, good: str = "") -> Any:
        """Does something with the session in a thread, shows what came of it, and says in words what went wrong."""
        if self.busy:
            return None
        self.busy = True
        self.ask.props("loading")
        self.main.props("aria-busy=true")
        self._say("")
        try:
            task = asyncio.ensure_future(run.io_bound(work))
            while watch is not None and not task.done():
                await asyncio.wait([task], timeout=0.15)
                self._stream(watch)
            done = await task
            self.show()
            self._say(good, good=True)
            return done
        except HareError as error:
            self.show()
            self._say(str(error))
            return None
        finally:
            self.busy = False
            self.ask.props(remove="loading")
            self.main.props("aria-busy=false")

    def _stream(self, watch: dict[str, str]) -> None:
        if not watch:
            return
        self.cards.clear()
        with self.cards:
            for name in ("hare", "rag"):
                with ui.element("section").classes(f"panel skill {name}"):
                    ui.label(watch.get(name, "")).classes("text raw").props(f"id=stream-{name}")

    async def _asked(self) -> None:
        need, watch = self.need.value or "", dict[str, str]()
        await self._do(lambda: self.session.ask(need, watch.__setitem__), watch)

    async def _played(self) -> None:
        session = self.session
        for _ in range(PLAYED):
            if await self._do(session.play) is None:
                return

    async def _rated(self, number: int) -> None:
        rating = (int(self.stars), tuple(sorted(self.complaints)))
        await self._do(lambda: self.session.rate(number, Rating(*rating)))

    async def _rag_rated(self, number: int, stars: float) -> None:
        await self._do(lambda: self.session.rate_rag(number, int(stars)))

    def _starred(self, event: events.ValueChangeEventArguments[Any]) -> None:
        self.stars = int(event.value or 0)

    def _complained(self, which: str, chosen: bool) -> None:
        (self.complaints.add if chosen else self.complaints.discard)(which)

    async def _became(self, event: events.ValueChangeEventArguments[Any]) -> None:
        await self._do(lambda: self.session.become(int(event.value)))

    async def _writer_chosen(self, event: events.ValueChangeEventArguments[Any]) -> None:
        await self._do(lambda: self.session.write_with(str(event.value)))

    async def _explored(self) -> None:
        alpha, beta = float(self.alpha.value), float(self.beta.value)
        await self._do(lambda: self.session.explore(alpha, beta))

    async def _forgotten(self) -> None:
        gone = await self._do(self.session.forget)
        if gone is not None:
            self._say(f"Forgotten: {gone} rounds. HARE was made anew without them.", good=True)

    async def _saved(self) -> None:
        data = await self._do(self.session.save)
        if data is not None:
            ui.download.content(data, "hare-state.npz")

    async def _exported(self) -> None:
        told = await self._do(self.session.export)
        if told is not None:
            ui.download.content(json.dumps(told, indent=1), "hare-session.json", "application/json")

    async def _loaded(self, event: events.UploadEventArguments) -> None:
        data = await event.file.read()
        event.sender.run_method("reset")
        await self._do(lambda: self.session.load(data), good="The state is loaded: HARE goes on from it.")


# -- words of the page ----------------------------------------------------------------------------------------------


def _title(text: str) -> str:
    try:
        skill = parse(text, lenient=True)
    except SkillError:
        return "(no valid skill)"
    return skill.title or skill.name


def _skill(text: str) -> None:
    """A skill to read. It is a stranger's text: NiceGUI's markdown is sanitised, and all else is escaped."""
    try:
        skill = parse(text, lenient=True)
    except SkillError:
        ui.label(text).classes("raw")
        return
    ui.label(skill.description).classes("about")
    ui.markdown(skill.body.replace("- [ ] ", "- ☐ ").replace("<", "&lt;"))


def _stars(count: int) -> str:
    return f'<span aria-label="{count} of 5 stars" style="color:#b86e00">{"★" * count}{"☆" * (5 - count)}</span>'


def _chips(words: list[str]) -> str:
    return f'<div class="chips">{"".join(f"<span>{escape(word)}</span>" for word in words)}</div>' if words else ""


def _hidden(session: LiveSession) -> str:
    if session.persona < 0:
        return "Rate what you get, or choose somebody simulated who rates for you."
    words = "".join(f"<span>{escape(word)}</span>" for word in session.hidden())
    return f'Hidden from both: <div class="chips">{words}</div>'


def _persona_foot(turn: Turn, name: str) -> None:
    if name == "rag":
        items = {"a random item": turn.expected.get("random item"), "the best item": turn.expected.get("best item")}
        told = ", ".join(f"{key} {value:.2f}" for key, value in items.items() if value is not None)
        ui.label(f"For comparison, what this user would give skills of the catalogue as they are: {told}.").classes(
            "note"
        )
        return
    ui.html(f"Rated {_stars(turn.stars)} by the simulated user", sanitize=False)
    cells = "".join(
        f'<div>{part}<div class="bar"><i style="width:{100 * turn.parts[part]:.0f}%"></i></div></div>'
        for part in _PARTS
        if part in turn.parts
    )
    ui.html(cells, sanitize=False).classes("parts")


# -- the server -----------------------------------------------------------------------------------------------------


class _Guard:
    """Answers its own hosts alone, refuses what is too large, and lets a page load nothing from elsewhere."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "").rpartition(":")[0].strip("[]") or headers.get(b"host", "")
        if self.hosts and host not in self.hosts:
            # a page elsewhere whose name was pointed at this machine (DNS rebinding)
            await PlainTextResponse("This page is served to this machine alone.", 421)(scope, receive, send)
            return
        size = headers.get(b"content-length", "0")
        if not size.isdigit() or int(size) > MOST_BYTES + 2**20:
            await PlainTextResponse("That is too large.", 413)(scope, receive, send)
            return

        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", _POLICY.encode())]
            await send(message)

        await self.app(scope, receive, with_policy)


def serve(
    sessions: Sessions,
    host: str = "127.0.0.1",
    port: int = 8080,
    browser: bool = True,
    ready: Callable[[], Any] | None = None,
) -> None:
    """Serves the page until it is stopped.

    Args:
        sessions: Whose sessions it shows.
        host: The address to listen at; any but this machine's own lets others in.
        port: The port.
        browser: Whether a browser is opened.
        ready: Called once it answers.
    """
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")

    @ui.page("/", title="HARE, live", response_timeout=120.0)
    async def show() -> None:
        id = str(app.storage.browser["id"])
        await run.io_bound(sessions.get, id)  # a long session is taught again, and nobody else waits for it
        ui.colors(primary=charts.COLOURS["HARE"])
        ui.add_css(style)
        Page(sessions, id)

    app.add_middleware(_Guard, hosts=LOCAL if host in LOCAL else ())
    if ready is not None:
        app.on_startup(ready)
    ui.run(
        host=host,
        port=port,
        title="HARE, live",
        favicon="🐇",
        show=browser,
        reload=False,
        tailwind=False,
        show_welcome_message=False,
        storage_secret=sessions.secret,
        session_middleware_kwargs={"session_cookie": "hare_demo", "same_site": "lax", "max_age": 365 * 86400},
        uvicorn_logging_level="warning",
    )
