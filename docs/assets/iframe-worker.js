// Search of pages that are opened as files: browsers start no worker there, so that of the search
// runs in a hidden frame. Pages from a server use a real worker.
(function () {
  "use strict";
  if (window.location.protocol !== "file:") {
    return;
  }

  class IFrameWorker extends EventTarget {
    constructor(url) {
      super();
      const worker = this;
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "search";
      document.body.appendChild(frame);
      const inner = frame.contentWindow;
      this.frame = frame;
      this.waiting = [];
      this.isBusy = true; // until its script is loaded
      inner.postMessage = function (data) {
        worker.dispatchEvent(new MessageEvent("message", { data: data }));
        worker.proceed();
      };
      inner.importScripts = function () {
        let loaded = Promise.resolve();
        for (const script of arguments) {
          loaded = loaded.then(() => load(inner.document, script));
        }
        return loaded;
      };
      load(inner.document, new URL(url, window.location.href).href).then(() => this.proceed());
    }

    postMessage(data) {
      this.waiting.push(data);
      if (!this.isBusy) {
        this.proceed();
      }
    }

    // The search answers each message once. The next one waits for that: unlike a worker, a frame
    // would read it while the scripts are loaded that the first one asks for.
    proceed() {
      this.isBusy = this.waiting.length > 0;
      if (this.isBusy) {
        const inner = this.frame.contentWindow;
        inner.dispatchEvent(new inner.MessageEvent("message", { data: this.waiting.shift() }));
      }
    }

    terminate() {
      this.frame.remove();
    }
  }

  function load(page, url) {
    return new Promise((done, failed) => {
      const script = page.createElement("script");
      script.onload = () => done();
      script.onerror = () => failed(new Error("cannot load " + url));
      script.src = url;
      page.body.appendChild(script);
    });
  }

  window.IFrameWorker = IFrameWorker; // the search looks for this name
  window.Worker = IFrameWorker;
})();
