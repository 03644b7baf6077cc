#!/usr/bin/perl
# Calls the Calculator with generated code and the official Perl library of Thrift, without Katamari code.
#
#     thrift -r --gen perl ../calculator.thrift
#     perl -Igen-perl calculator.pl [PORT]
#
# Needs the Thrift compiler, its Perl library and two modules that Debian's package lacks
# (Debian: thrift-compiler, libthrift-perl, libbit-vector-perl, libclass-accessor-perl).

use strict;
use warnings;
use Scalar::Util 'blessed';
use Thrift;
use Thrift::BinaryProtocol;
use Thrift::FramedTransport;
use Thrift::MultiplexedProtocol;
use Thrift::Socket;
use tutorial::Calculator;

my $port = shift // 9090;

sub connect_to {
    my $socket = Thrift::Socket->new({
        host => '127.0.0.1',
        port => $port,
        # In ms. The mesh has its own timeout, 10 s by default.
        sendTimeout => 5_000,
        recvTimeout => 12_000,
    });
    my $transport = Thrift::FramedTransport->new($socket);
    $transport->open;
    return $transport;
}

# Runs the code. Returns true unless it dies with an exception of that class.
sub try_for {
    my ($class, $code, $handler) = @_;
    return 1 if eval { $code->(); 1 };
    die $@ unless blessed $@ and $@->isa($class);
    $handler->($@);
}

my $transport = connect_to();
my $client = tutorial::CalculatorClient->new(Thrift::BinaryProtocol->new($transport));
print '2 + 40 = ', $client->add(2, 40), "\n";
try_for(
    'tutorial::InvalidOperation',    # declared in the IDL
    sub { $client->calculate(1, tutorial::Work->new({ num1 => 1, num2 => 0, op => tutorial::Operation::DIVIDE })) },
    sub { print "1 / 0: $_[0]{why}\n" },
);
try_for(
    'Thrift::TApplicationException',    # an error of the mesh, or an undeclared error of the handler
    sub { $client->add(2**31 - 1, 1) },
    sub { print "error $_[0]{code}: $_[0]{message}\n" },
);
$transport->close;

# Select the service and its version with the multiplexed protocol.
$transport = connect_to();
my $named = Thrift::MultiplexedProtocol->new(Thrift::BinaryProtocol->new($transport), 'Calculator@^1');
my $work = tutorial::Work->new({ num1 => 15, num2 => 10, op => tutorial::Operation::SUBTRACT });
print '15 - 10 = ', tutorial::CalculatorClient->new($named)->calculate(1, $work), "\n";
$transport->close;
