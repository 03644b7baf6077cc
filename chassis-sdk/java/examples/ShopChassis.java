// A shop that calls another service, the Speller.

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import katamari.chassis.Chassis;
import katamari.chassis.Mesh;
import katamari.chassis.Options;
import org.apache.thrift.TException;
import shop.OutOfStock;
import shop.Shop;
import speller.Speller;

public class ShopChassis implements Shop.Iface {
  private final Map<String, Long> stock = new HashMap<>(Map.of("tea", 40L));

  @Override
  public long order(String item, long pieces) throws OutOfStock {
    long left = stock.getOrDefault(item, 0L);
    if (left < pieces) throw new OutOfStock(item, left);
    stock.put(item, left - pieces);
    return pieces * 250;
  }

  @Override
  public List<String> search(String words) throws TException {
    Speller.Client speller = Mesh.client(Speller.Client::new, "", Duration.ofMillis(500));
    return List.of(words, speller.correct(words));
  }

  public static void main(String[] args) throws Exception {
    Chassis.serve(new ShopChassis(), Shop.Processor::new, new Options("shop.thrift", "1.0.0"));
  }
}
