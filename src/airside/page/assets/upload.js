// Uploads archives by tus 1.0.0 (docs/adr/0041-uploads.md). Without it the form does the same, but
// an upload that breaks begins again.
"use strict";
(() => {
  const form = document.getElementById("upload-form");
  if (!form) return;
  const list = document.getElementById("upload-list");
  const said = document.getElementById("said");
  const section = document.getElementById("upload");
  const texts = JSON.parse(form.dataset.texts);
  const lang = document.documentElement.lang || "en";
  const VERSION = "1.0.0", PREFIX = "airside-upload:";
  const LEAST = 4 << 20, MOST = 256 << 20, PATIENCE = 30000;
  // What another try cannot change; all else (no space, no right, no place) may be mended.
  const FINAL = [400, 404, 409, 412, 413, 415, 422];
  const queue = [];
  let running = null;

  const text = (key, values) => texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const number = (value, digits) => new Intl.NumberFormat(lang, {minimumFractionDigits: digits, maximumFractionDigits: digits}).format(value);
  const bytes = (count) => {
    const units = ["B", "kB", "MB", "GB", "TB"]; // as the rest of the page
    let unit = 0;
    while (count >= 1000 && unit < units.length - 1) { count /= 1000; unit += 1; }
    return `${number(count, unit ? 1 : 0)} ${units[unit]}`;
  };
  const time = (seconds) => {
    const whole = Math.max(0, Math.ceil(seconds));
    const two = (value) => String(value).padStart(2, "0");
    const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
    return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
  };
  // Control and direction characters are seen, not obeyed.
  const shown = (name) => {
    const whole = name.replace(/[\p{C}\u2028\u2029]/gu, (each) => `\\u{${each.codePointAt(0).toString(16)}}`);
    return whole.length > 300 ? `${whole.slice(0, 300)}…` : whole;
  };
  const base64 = (value) => {
    let raw = "";
    for (const each of new TextEncoder().encode(value)) raw += String.fromCharCode(each);
    return btoa(raw);
  };
  const kept = {
    get: (key) => { try { return localStorage.getItem(key); } catch { return null; } },
    set: (key, value) => { try { localStorage.setItem(key, value); } catch { /* not resumed after a reload */ } },
    remove: (key) => { try { localStorage.removeItem(key); } catch { /* there is none */ } },
    keys: () => { try { return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX)); } catch { return []; } },
  };

  // A refusal: the server's reason, which is final. Everything else is a broken connection.
  class Refusal extends Error {
    constructor(status, reason) { super(reason); this.status = status; }
  }

  function send(method, address, {headers = {}, body = null, progress = null, signal = null} = {}) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open(method, address);
      for (const [name, value] of Object.entries({"Tus-Resumable": VERSION, ...headers})) request.setRequestHeader(name, value);
      if (progress) request.upload.onprogress = (event) => progress(event.loaded);
      if (signal) signal.addEventListener("abort", () => request.abort(), {once: true});
      let quiet = 0;
      const watch = () => { clearTimeout(quiet); quiet = setTimeout(() => request.abort(), PATIENCE * 2); };
      request.upload.addEventListener("progress", watch);
      request.upload.addEventListener("load", () => clearTimeout(quiet)); // the disk may take long
      if (body) watch();
      request.onloadend = () => clearTimeout(quiet);
      request.onerror = request.onabort = () => reject(new Error("broken"));
      request.onload = () => {
        if (request.status < 300) { resolve(request); return; }
        if (request.status >= 502 && request.status <= 504) { reject(new Error("broken")); return; }
        reject(new Refusal(request.status, reasonOf(request)));
      };
      request.send(body);
    });
  }
  function reasonOf(request) {
    try { return JSON.parse(request.responseText).errors[0].message; } catch { /* plain text */ }
    return request.responseText.trim() || `${request.status} ${request.statusText}`;
  }

  // An upload that has not its name yet expires.
  const isOpen = (answer) => Boolean(answer.getResponseHeader("Upload-Expires"));

  class Upload {
    constructor(file, key, name, size) {
      Object.assign(this, {file, key, name, size, offset: 0, replaces: false, state: "waiting", chunk: LEAST});
      this.item = document.createElement("li");
      this.title = document.createElement("bdi");
      this.title.textContent = name = shown(name);
      this.bar = document.createElement("progress");
      this.bar.max = size || 1;
      this.bar.value = 0;
      this.bar.setAttribute("aria-label", text("progress", {name}));
      this.status = document.createElement("span");
      this.status.className = "upload-status";
      this.buttons = {};
      this.item.append(this.title, " ", this.bar, " ", this.status, " ");
      for (const action of ["pause", "resume", "replace", "cancel"]) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = texts[action];
        button.setAttribute("aria-label", text("of", {action: texts[action], name}));
        button.addEventListener("click", () => this[action]());
        this.buttons[action] = button;
        this.item.append(button, " ");
      }
      list.append(this.item);
      list.hidden = false;
      this.show("waiting", text("waiting", {}));
    }

    // `state` is one of waiting, sending, paused, broken, kept, refused, stored, done, failed, cancelled.
    show(state, words, aloud = false) {
      const focused = this.item.contains(document.activeElement);
      this.state = state;
      this.item.dataset.state = state;
      this.status.textContent = words;
      this.bar.value = this.offset;
      const offered = {
        pause: state === "sending" || state === "broken",
        resume: state === "paused" || state === "broken" || (state === "refused" && !this.isFinal),
        replace: state === "refused" && this.status409,
        cancel: ["waiting", "sending", "paused", "broken", "kept", "refused"].includes(state),
      };
      for (const [action, button] of Object.entries(this.buttons)) button.hidden = !offered[action];
      this.bar.hidden = ["refused", "done", "failed", "cancelled"].includes(state);
      if (focused && (!document.activeElement || document.activeElement === document.body || document.activeElement.hidden)) {
        const next = Object.values(this.buttons).find((button) => !button.hidden);
        if (next) next.focus(); else { this.item.tabIndex = -1; this.item.focus(); }
      }
      if (aloud && said) said.textContent = `${shown(this.name)}: ${words}`;
    }
    progress(values = {}) {
      return {done: bytes(this.offset), total: bytes(this.size), ...values};
    }

    pause() {
      if (this.abort) this.abort.abort();
      this.wake("pause");
      this.show("paused", text("paused", this.progress()), true);
      if (running === this) { running = null; next(); }
    }
    resume() {
      if (this.state === "broken") { this.wake(); return; }
      this.show("waiting", text("waiting", {}));
      queue.push(this);
      next();
    }
    replace() {
      this.replaces = true;
      this.resume();
    }
    async cancel() {
      const state = this.state, url = kept.get(this.key);
      if (this.abort) this.abort.abort();
      const place = queue.indexOf(this);
      if (place >= 0) queue.splice(place, 1);
      kept.remove(this.key);
      this.show("cancelled", text("cancelled", {}), true);
      this.wake("cancel");
      if (running === this) { running = null; next(); }
      if (url && state !== "waiting") await send("DELETE", url).catch(() => {});
    }
    // Has the server delete what it has of it.
    forget() {
      const url = kept.get(this.key);
      kept.remove(this.key);
      this.offset = 0;
      if (url) send("DELETE", url).catch(() => {});
    }
    wake(why) { if (this.waking) this.waking(why); }
    sleep(seconds) {
      return new Promise((resolve) => {
        let left = seconds;
        const tick = () => {
          if (left <= 0) { this.waking(); return; }
          this.show("broken", text("broken", this.progress({left: time(left)})), left === seconds);
          left -= 1;
        };
        const timer = setInterval(tick, 1000);
        this.waking = () => { clearInterval(timer); this.waking = null; resolve(); };
        tick();
      });
    }

    // Ends when the archive is stored or refused, or somebody paused or cancelled.
    async run() {
      for (let failures = 0; ;) {
        this.abort = new AbortController();
        const before = this.offset;
        try {
          await this.once();
          return;
        } catch (error) {
          if (this.state === "paused" || this.state === "cancelled") return;
          if (error instanceof Refusal) {
            if (error.status === 404) { kept.remove(this.key); failures += 1; if (failures < 3) continue; }
            if (error.status === 409 && kept.get(this.key) && failures < 3) { failures += 1; continue; }
            this.status409 = error.status === 409;
            this.isFinal = FINAL.includes(error.status);
            if (this.isFinal) this.forget();
            this.show("refused", text("refused", {reason: error.message}), true);
            return;
          }
          this.chunk = LEAST;
          failures = this.offset > before ? 1 : failures + 1;
          await this.sleep(Math.min(30, 2 ** (failures - 1)));
          if (this.state === "paused" || this.state === "cancelled") return;
        }
      }
    }
    async once() {
      const signal = this.abort.signal;
      let url = kept.get(this.key), isWhole = false;
      this.show("sending", text("sending", this.progress({rate: bytes(0), left: "–"})));
      if (url) {
        const answer = await send("HEAD", url, {signal});
        this.offset = Number(answer.getResponseHeader("Upload-Offset"));
        isWhole = !isOpen(answer);
      } else {
        const metadata = `filename ${base64(this.name)}${this.replaces ? ",replace MQ==" : ""}`;
        const headers = {"Upload-Length": String(this.size), "Upload-Metadata": metadata};
        const answer = await send("POST", form.getAttribute("action"), {headers, signal});
        url = answer.getResponseHeader("Location");
        this.offset = 0;
        isWhole = !this.size;
        kept.set(this.key, url);
      }
      const rate = new Rate();
      while (!isWhole) { // an empty piece, where all are sent, has the server give the file its name
        await this.append(url, rate, signal);
        isWhole = this.offset >= this.size;
      }
      kept.remove(this.key);
      this.show("stored", text("stored", {}), true);
      this.follow(url);
    }
    async append(url, rate, signal) {
      const begun = this.offset, started = performance.now();
      const end = Math.min(this.size, begun + this.chunk);
      const answer = await send("PATCH", url, {
        headers: {"Upload-Offset": String(begun), "Content-Type": "application/offset+octet-stream"},
        body: this.file && end > begun ? this.file.slice(begun, end) : null,
        signal,
        progress: (loaded) => {
          if (this.state !== "sending") return;
          const done = begun + Math.min(loaded, end - begun), now = rate.add(done);
          this.offset = done;
          const words = done >= this.size ? text("storing", {})
            : text("sending", this.progress({rate: bytes(now), left: now ? time((this.size - done) / now) : "–"}));
          this.show("sending", words);
        },
      });
      this.offset = Number(answer.getResponseHeader("Upload-Offset"));
      if (performance.now() - started < 1000) this.chunk = Math.min(MOST, this.chunk * 2);
    }
    // Shows what becomes of the import.
    async follow(url) {
      for (let wait = 200; ; wait = Math.min(2000, wait * 1.5)) {
        await new Promise((resolve) => setTimeout(resolve, wait));
        let found;
        try { found = JSON.parse((await send("GET", url)).responseText); } catch (error) {
          if (error instanceof Refusal) return;
          continue;
        }
        if (found.state === "imported") {
          const names = found.images.join(", ");
          this.show("done", names ? text("imported", {images: names}) : text("unnamed", {}), true);
          return;
        }
        if (!["waiting", "queued", "importing", "uploading"].includes(found.state)) {
          const state = texts[`state.${found.state}`] || found.state;
          this.show("failed", text("failed", {state, reason: found.reason}), true);
          if (found.state === "rejected" || found.state === "ignored") return;
        } else if (found.state === "importing") {
          this.show("stored", text("importing", {}));
        }
      }
    }
  }

  // Bytes per second over the last seconds.
  class Rate {
    constructor() { this.seen = []; }
    add(count) {
      const now = performance.now();
      this.seen.push([now, count]);
      while (this.seen.length > 2 && now - this.seen[0][0] > 5000) this.seen.shift();
      const [at, first] = this.seen[0];
      return now - at > 100 ? (count - first) * 1000 / (now - at) : 0;
    }
  }

  async function next() {
    if (running || !queue.length) return;
    running = queue.shift();
    const mine = running;
    await mine.run();
    if (running === mine) running = null;
    next();
  }
  function add(files) {
    const replace = form.elements.replace.checked;
    for (const file of files) {
      const key = `${PREFIX}${file.name}:${file.size}:${file.lastModified}`;
      for (const each of [...waiting]) if (each.key === key) { each.item.remove(); waiting.delete(each); }
      const upload = new Upload(file, key, file.name, file.size);
      upload.replaces = replace;
      queue.push(upload);
    }
    next();
  }

  // What an earlier visit left unfinished: the browser must be given the file again.
  const waiting = new Set();
  for (const key of kept.keys()) {
    const [, name, size] = /^airside-upload:(.*):(\d+):\d+$/s.exec(key) || [];
    const url = kept.get(key);
    if (name === undefined || !url) { kept.remove(key); continue; }
    send("HEAD", url).then((answer) => {
      const upload = new Upload(null, key, name, Number(size));
      upload.offset = Number(answer.getResponseHeader("Upload-Offset"));
      if (upload.offset >= upload.size && isOpen(answer)) { queue.push(upload); next(); return; }
      if (upload.offset >= upload.size) { kept.remove(key); upload.show("stored", text("stored", {})); upload.follow(url); return; }
      upload.show("kept", text("kept", upload.progress()));
      waiting.add(upload);
    }).catch((error) => { if (error instanceof Refusal) kept.remove(key); });
  }

  form.elements.file.addEventListener("change", () => {
    add(form.elements.file.files);
    form.elements.file.value = "";
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    add(form.elements.file.files);
    form.elements.file.value = "";
  });
  const hasFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  let depth = 0;
  document.addEventListener("dragenter", (event) => { if (hasFiles(event)) { depth += 1; section.classList.add("is-over"); } });
  document.addEventListener("dragleave", (event) => { if (hasFiles(event) && (depth -= 1) <= 0) section.classList.remove("is-over"); });
  document.addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    section.classList.remove("is-over");
    add(event.dataTransfer.files);
  });
  addEventListener("online", () => { if (running) running.wake(); });
  addEventListener("beforeunload", (event) => { if (running || queue.length) event.preventDefault(); });
})();
