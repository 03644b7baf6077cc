// The socket server of a chassis: it listens, accepts connections and drains. Each connection has a thread of its own.

package katamari.chassis;

import java.io.IOException;
import java.net.SocketAddress;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

final class Server {
  /** Open connections. The same in every kit. */
  private static final int CONNECTIONS_MAX = 256;
  /** Time for the mesh to close its connection after a drain notice and the last reply. */
  private static final long LEAVE_NS = TimeUnit.SECONDS.toNanos(1);
  /** How often connections without progress are looked for. */
  private static final long WATCH_MS = 1_000;
  private static final long ACCEPT_PAUSE_MS = 50;

  private final ServerSocketChannel listener;
  private final SocketAddress address;
  private final Limits limits;
  private final Consumer<Call> take;
  private final Set<Connection> connections = new HashSet<>();
  private int inFlight;
  private boolean isDraining;

  /**
   * Listens. Calls are accepted from `start` on.
   *
   * @param take receives every call, in the thread of its connection
   */
  Server(String listen, Limits limits, Consumer<Call> take) throws IOException {
    listener = Address.parse(listen).listen();
    address = listener.getLocalAddress();
    this.limits = limits;
    this.take = take;
  }

  /** The address, with the actual port for port 0. */
  String address() {
    return Address.textOf(address);
  }

  void start() {
    Threads.start("katamari-accept", this::accept);
    Threads.start("katamari-watch", this::watch);
  }

  /** Stops listening, sends the mesh a drain notice, waits for the calls in flight, then closes. */
  void drain() throws InterruptedException {
    List<Connection> open;
    synchronized (this) {
      if (isDraining) return;
      isDraining = true;
      open = new ArrayList<>(connections);
    }
    stopListening();
    for (Connection connection : open) connection.announceDrain();
    synchronized (this) {
      while (inFlight > 0) wait();
    }
    long end = System.nanoTime() + LEAVE_NS;
    for (Connection connection : open) connection.leave(end - System.nanoTime());
  }

  /** Takes a call of a connection, or refuses it during a drain. */
  void begin(Call call) {
    boolean isTaken;
    synchronized (this) {
      inFlight++;
      isTaken = !isDraining;
    }
    if (isTaken) {
      take.accept(call);
      return;
    }
    String why = "Cannot take " + call.method() + ": this process is draining; send the call to another one";
    call.answer(Reply.refused(KatamariException.notRun(KatamariException.Code.DRAINING, why)), false);
  }

  synchronized void count(int change) {
    inFlight += change;
    if (isDraining) notifyAll();
  }

  synchronized void forget(Connection connection) {
    connections.remove(connection);
  }

  private void accept() throws InterruptedException {
    for (;;) {
      try {
        admit(listener.accept());
      } catch (ClosedChannelException closed) {
        return;
      } catch (IOException error) {
        // Most likely no file descriptor is free. Retry, because other connections will close.
        Thread.sleep(ACCEPT_PAUSE_MS);
      }
    }
  }

  private void admit(SocketChannel channel) throws IOException {
    Address.withoutDelay(channel);
    Connection connection = null;
    synchronized (this) {
      if (!isDraining && connections.size() < CONNECTIONS_MAX) {
        connection = new Connection(this, channel, limits);
        connections.add(connection);
      }
    }
    if (connection == null) channel.close();
    else connection.start();
  }

  private void watch() throws InterruptedException {
    for (;;) {
      Thread.sleep(WATCH_MS);
      List<Connection> open;
      synchronized (this) {
        open = new ArrayList<>(connections);
      }
      for (Connection connection : open) connection.checkProgress();
    }
  }

  private void stopListening() {
    try {
      listener.close();
      if (address instanceof UnixDomainSocketAddress)
        Files.deleteIfExists(((UnixDomainSocketAddress) address).getPath());
    } catch (IOException error) {
      Log.warning("cannot stop listening: " + error.getMessage());
    }
  }
}
