// Threads of the kit. They are daemons: the process ends when `serve` and the threads of the program have ended.

package katamari.chassis;

final class Threads {
  private Threads() {}

  /** Work that ends when its thread is interrupted. */
  interface Work {
    void run() throws InterruptedException;
  }

  static Thread start(String name, Work work) {
    Thread thread =
        new Thread(
            () -> {
              try {
                work.run();
              } catch (InterruptedException ended) {
                Thread.currentThread().interrupt();
              }
            },
            name);
    thread.setDaemon(true);
    thread.start();
    return thread;
  }
}
