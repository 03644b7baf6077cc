// The connection of one peer. Its thread reads frames and passes their calls on; replies come from any thread. The
// resource manager holds one connection; plain Thrift clients may open others. Limits: calls in flight, above which
// the connection is not read (backpressure), the time for a complete frame, and the time for the peer to read a reply.

package katamari.chassis;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;
import org.apache.thrift.protocol.TMessageType;

final class Connection {
  /** Calls in flight on one connection. */
  private static final int PIPELINE_MAX = 1_024;
  private static final long REQUEST_NS = TimeUnit.SECONDS.toNanos(30);
  /** The channel copies what it writes into memory outside the heap, which it keeps. */
  private static final int SLICE_BYTES = 65_536;

  private final Server server;
  private final SocketChannel channel;
  private final Limits limits;
  private final FrameReader reader;
  private final ReentrantLock writing = new ReentrantLock();
  private final Semaphore slots = new Semaphore(PIPELINE_MAX);
  private final CountDownLatch gone = new CountDownLatch(1);
  private volatile long writingSinceNs;
  /** Whether the peer sends contexts. Then it is of the mesh and understands a drain notice. */
  private volatile boolean isOfMesh;

  Connection(Server server, SocketChannel channel, Limits limits) {
    this.server = server;
    this.channel = channel;
    this.limits = limits;
    reader = new FrameReader(channel, limits);
  }

  void start() {
    Threads.start("katamari-read", this::read);
  }

  boolean isGone() {
    return gone.getCount() == 0 || !channel.isOpen();
  }

  /**
   * Sends the reply of a call and frees its place.
   *
   * @param reply null for a oneway call, which has none
   */
  void endCall(ByteBuffer reply) {
    // A handler may have left its thread interrupted, which would close the channel.
    boolean wasInterrupted = Thread.interrupted();
    try {
      if (reply != null) write(reply);
    } finally {
      slots.release();
      server.count(-1);
      if (wasInterrupted) Thread.currentThread().interrupt();
    }
  }

  void announceDrain() {
    if (isOfMesh) write(Message.drainNotice());
  }

  /** Closes the connection. A peer of the mesh closes it after a drain notice, so it first gets some time. */
  void leave(long withinNs) throws InterruptedException {
    if (isOfMesh) gone.await(withinNs, TimeUnit.NANOSECONDS);
    close();
  }

  /** Closes the connection if its peer neither completes a frame nor reads a reply. */
  void checkProgress() {
    long since = writingSinceNs;
    if (reader.isLate(REQUEST_NS) || (since != 0 && System.nanoTime() - since > REQUEST_NS)) close();
  }

  private void read() {
    try {
      for (FrameReader.Frame frame = reader.next(); frame != null; frame = reader.next()) take(frame);
    } catch (MalformedException error) {
      Log.warning("closed a connection that sent an invalid message: " + error.getMessage());
    } catch (IOException | InterruptedException closed) {
      // The peer is gone, or this process closes the connection.
    } finally {
      close();
      gone.countDown();
      server.forget(this);
    }
  }

  private void take(FrameReader.Frame frame) throws MalformedException, InterruptedException {
    Message head = Message.read(frame.bytes());
    if (head.type() != TMessageType.CALL && head.type() != TMessageType.ONEWAY)
      throw new MalformedException("message type " + head.type() + ", expected a call (1) or a oneway call (4)");
    if (frame.isOversized()) {
      String why = "it has " + frame.size() + " bytes, limit is " + limits.frameBytesMax();
      refuse(frame, head, KatamariException.Code.TOO_LARGE, why + "; send it in smaller pieces");
      return;
    }
    Call call;
    try {
      StructCheck.check(frame.bytes(), head.bodyStart(), limits.nestingMax());
      call = Call.read(this, frame.bytes(), head);
    } catch (MalformedException.TooDeep tooDeep) {
      refuse(frame, head, KatamariException.Code.BAD_REQUEST, tooDeep.getMessage());
      return;
    }
    isOfMesh |= call.isOfMesh();
    // Stops reading while the peer has PIPELINE_MAX calls in flight.
    slots.acquire();
    server.begin(call);
  }

  private void refuse(FrameReader.Frame frame, Message head, KatamariException.Code code, String why)
      throws InterruptedException {
    slots.acquire();
    server.count(+1);
    Call call = Call.ofHead(this, frame.bytes(), head);
    call.answer(Reply.refused(KatamariException.notRun(code, "Cannot take " + call.method() + ": " + why)), false);
  }

  private void write(ByteBuffer message) {
    writing.lock();
    try {
      writingSinceNs = System.nanoTime() | 1;
      while (message.hasRemaining()) {
        int bytes = Math.min(message.remaining(), SLICE_BYTES);
        int written = channel.write(message.slice(message.position(), bytes));
        message.position(message.position() + written);
      }
    } catch (IOException failed) {
      // The peer disconnected or does not read. A part of the message may be sent, so nothing can follow it.
      close();
    } finally {
      writingSinceNs = 0;
      writing.unlock();
    }
  }

  private void close() {
    try {
      channel.close();
    } catch (IOException ignored) {
      // It is closed as well as it can be.
    }
  }
}
