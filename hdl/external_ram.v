// Behavioural stand-in for a memory chip: synchronous read, byte write enables, zero at start.
module irqscope_external_ram #(
    parameter INDEX_BITS = 10
) (
    input  wire                  clk,
    input  wire [INDEX_BITS-1:0] index,
    input  wire                  read,
    input  wire [3:0]            write,
    input  wire [31:0]           write_data,
    output reg  [31:0]           read_data
);
    reg [31:0] words [0:(1 << INDEX_BITS)-1];
    integer i;

    initial begin
        read_data = 32'd0;
        for (i = 0; i < (1 << INDEX_BITS); i = i + 1) words[i] = 32'd0;
    end

    always @(posedge clk) begin
        if (read) read_data <= words[index];
        if (write[0]) words[index][7:0] <= write_data[7:0];
        if (write[1]) words[index][15:8] <= write_data[15:8];
        if (write[2]) words[index][23:16] <= write_data[23:16];
        if (write[3]) words[index][31:24] <= write_data[31:24];
    end
endmodule
