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
      inner.postMessage = function (data) {
        worker.dispatchEvent(new MessageEvent("message", { data: data }));
      };
      inner.importScripts = function () {
        let loaded = Promise.resolve();
        for (const script of arguments) {
          loaded = loaded.then(() => load(inner.document, script));
        }
        return loaded;
      };
      load(inner.document, new URL(url, window.location.href).href).then(() => {
        const waiting = worker.waiting;
        worker.waiting = null;
        waiting.forEach((data) => worker.postMessage(data));
      });
    }

    postMessage(data) {
      if (this.waiting) {
        this.waiting.push(data);
      } else {
        const inner = this.frame.contentWindow;
        inner.dispatchEvent(new inner.MessageEvent("message", { data: data }));
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
