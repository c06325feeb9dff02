// The players of one excerpt are a small mixer: they run on one clock and stay together to the sample.
(() => {
  "use strict";
  const STEP = 1, LEAD = 0.03, FADE = 0.005; // s: of an arrow key, before sources start, and of a change of gain
  let context = null, current = null;

  const decode = ({ audio }) => {
    const text = atob(audio.src.slice(audio.src.indexOf(",") + 1)); // fetch is forbidden by the page's policy
    return context.decodeAudioData(Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer);
  };

  class Mixer {
    constructor(article) {
      const part = (name) => article.querySelector(name);
      Object.assign(this, { article, offset: 0, playing: false, looping: false, soloed: null, sources: [] });
      this.duration = Number(article.dataset.seconds);
      [this.playButton, this.loopButton] = [part(".play"), part(".loop")];
      [this.slider, this.clock] = [part("input"), part("output")];
      this.slider.max = this.duration;
      this.players = [...article.querySelectorAll(".player")].map((element, i) => ({
        element, muted: i > 0, audio: element.querySelector("audio"),
        mute: element.querySelector(".mute"), solo: element.querySelector(".solo"),
      }));
      this.chosen = this.players[0];
      this.players.forEach((player, i) => {
        player.element.querySelector("kbd").textContent = i < 9 ? i + 1 : "";
        player.mute.onclick = () => this.mute(player);
        player.solo.onclick = () => this.solo(player);
      });
      this.playButton.onclick = () => this.toggle();
      this.loopButton.onclick = () => this.loop();
      this.slider.oninput = () => this.seek(Number(this.slider.value));
      article.classList.add("live");
      this.show();
    }

    get position() {
      const played = this.sources.length ? Math.max(0, context.currentTime - this.startedAt) : 0;
      const position = this.offset + played;
      return this.looping ? position % this.duration : Math.min(position, this.duration);
    }

    choose() { // it plays alone, and keys are for it
      if (current === this) return;
      const other = current;
      current = this;
      other?.pause();
      if (other) other.buffers = null; // an excerpt takes megabytes
      other?.show();
    }

    async play() {
      this.choose();
      if (this.offset >= this.duration) this.offset = 0;
      this.playing = true;
      this.show();
      try {
        context ??= new AudioContext();
        await context.resume();
        this.buffers ??= await Promise.all(this.players.map(decode));
      } catch (error) {
        this.playing = false;
        this.article.classList.remove("live"); // the browser's own controls remain
        throw error;
      }
      if (this.playing && !this.sources.length) this.start();
    }

    start() {
      this.stop();
      this.startedAt = context.currentTime + LEAD;
      this.sources = this.players.map((player, i) => {
        player.gain ??= new GainNode(context, { gain: this.isAudible(player) ? 1 : 0 });
        const options = { buffer: this.buffers[i], loop: this.looping, loopEnd: this.duration };
        const source = new AudioBufferSourceNode(context, options);
        source.connect(player.gain).connect(context.destination);
        source.start(this.startedAt, this.offset);
        return source;
      });
      this.sources[0].onended = () => { this.pause(); this.seek(0); };
      this.show();
    }

    stop() {
      for (const source of this.sources) {
        source.onended = null;
        source.stop();
        source.disconnect();
      }
      this.sources = [];
    }

    pause() {
      this.offset = this.position;
      this.playing = false;
      this.stop();
      this.show();
    }

    toggle() { if (this.playing) this.pause(); else this.play(); }

    seek(position) {
      this.choose();
      this.offset = Math.min(Math.max(position, 0), this.duration);
      if (this.sources.length) this.start();
      this.show();
    }

    loop() {
      this.choose();
      const position = this.position;
      this.looping = !this.looping;
      if (this.sources.length) [this.offset, this.startedAt] = [position, context.currentTime];
      for (const source of this.sources) source.loop = this.looping;
      this.show();
    }

    mute(player) {
      this.choose();
      this.chosen = player;
      player.muted = !player.muted;
      this.show();
    }

    solo(player) { // one at a time: the quickest way to compare
      this.choose();
      this.chosen = player;
      this.soloed = this.soloed === player ? null : player;
      this.show();
    }

    isAudible(player) { return this.soloed ? this.soloed === player : !player.muted; }

    show() {
      this.article.classList.toggle("current", current === this);
      this.playButton.textContent = this.playing ? "Pause" : "Play";
      this.loopButton.setAttribute("aria-pressed", this.looping);
      for (const player of this.players) {
        const audible = this.isAudible(player);
        player.element.classList.toggle("audible", audible);
        player.mute.setAttribute("aria-pressed", player.muted);
        player.solo.setAttribute("aria-pressed", this.soloed === player);
        player.gain?.gain.setTargetAtTime(audible ? 1 : 0, context.currentTime, FADE);
      }
      this.tick();
    }

    tick() {
      const [position, duration] = [this.position, this.duration].map((seconds) => seconds.toFixed(1));
      this.slider.value = this.position;
      this.slider.setAttribute("aria-valuetext", `${position} of ${duration} seconds`);
      this.clock.textContent = `${position} / ${duration}\u00a0s`;
      cancelAnimationFrame(this.frame);
      if (this.playing) this.frame = requestAnimationFrame(() => this.tick());
    }
  }

  const mixers = [...document.querySelectorAll(".excerpt")].map((article) => new Mixer(article));
  if (!mixers.length) return;
  mixers[0].choose();
  mixers[0].show();
  window.mixers = mixers;

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat && event.key === " ") return;
    const arrows = { ArrowLeft: -STEP, ArrowRight: STEP };
    const player = /^[1-9]$/.test(event.key) && current.players[event.key - 1];
    if (event.key === " ") {
      if (event.target.closest("button, summary, a")) return; // which it presses
      current.toggle();
    } else if (event.key in arrows) {
      if (event.target.closest("input, .scroll, pre")) return; // which they move
      current.seek(current.position + arrows[event.key]);
    } else if (player) current.solo(player);
    else if (event.key === "m") current.mute(current.chosen);
    else if (event.key === "l") current.loop();
    else return;
    event.preventDefault();
  });
})();
